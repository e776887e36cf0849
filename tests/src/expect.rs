//! What the suites and the demo expect of a lab, each told from every side that shows it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    client::{Answer, Client, Knock, Message, NHS_NUMBER, Offer, Session, identifier_of},
    json::at,
    lab::{self, CONSUMER, Lab, PROVIDER},
    netns::{Host, INTERFACE},
};

/// A SYN dies in XDP for a reason: its counter moves, and the network stack never sees it.
///
/// # Errors
/// Something of that is not so.
pub fn dropped(lab: &Lab, client: &Client<'_>, reason: &str) -> Result<()> {
    let (agent, tap) = (lab.agent(), lab.tap()?);
    let drops = agent.drops(reason)?;
    let knock = client.knock()?;
    ensure!(
        knock == Knock::Silence,
        "{} must be dropped, but: {}",
        client.address(),
        knock.as_str()
    );
    ensure!(
        agent.drops(reason)? > drops,
        "the counter of {reason} did not move"
    );
    ensure!(tap.syns(client.ip())? == 0, "a SYN reached the network stack");
    Ok(())
}

/// A stranger gets no answer at all.
///
/// # Errors
/// It gets one.
pub fn silent(lab: &Lab) -> Result<()> {
    let knock = lab.client(Host::Stranger).knock()?;
    ensure!(knock == Knock::Silence, "a stranger: {}", knock.as_str());
    Ok(())
}

/// A search through the proxy is answered.
///
/// # Errors
/// It is not.
pub fn serves(lab: &Lab) -> Result<()> {
    accepted(&lab.client(Host::Ssp))
}

/// A search by a client is answered.
///
/// # Errors
/// It is not.
pub fn accepted(client: &Client<'_>) -> Result<()> {
    let answer = client.answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
    ensure!(answer.status == 200, "{answer}");
    Ok(())
}

/// An open connection that has served a request is cut off for a reason while something is done, and its client's next
/// handshake is refused for the same.
///
/// # Errors
/// It is not, or what was done failed.
pub fn cut_off(lab: &Lab, client: &Client<'_>, wanted: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let mark = lab.audit().mark()?;
    let search = Message::search(NHS_NUMBER).from(&CONSUMER);
    let statuses = client.before_and_after(&search, || {
        act()?;
        let reason = lab.audit().refusal(mark, &client.address())?;
        ensure!(reason == wanted, "refused for {reason}, not for {wanted}");
        Ok(())
    })?;
    ensure!(
        statuses == (200, None),
        "the connection is still open: {statuses:?}"
    );
    handshake_refused(lab, client, Offer::RIGHT, wanted)
}

/// The filter is attached in a mode, `native` or `generic`, after an operator has changed it to that.
///
/// # Errors
/// It is not, or not said to be.
pub fn attached(lab: &Lab, mode: &str) -> Result<()> {
    lab.configure(|table| drop(lab::filter(table).insert("attach".to_owned(), mode.into())))?;
    let agent = lab.agent();
    for order in ["reload", "detach"] {
        agent.order(&[order])?;
    }
    let said = agent.order(&["attach"])?;
    ensure!(said.contains(&format!("{INTERFACE} ({mode})")), "{said}");
    let status = agent.json(&["status"])?;
    let interface = at(&status, "/interfaces/0");
    ensure!(
        *at(interface, "/attach") == mode && *at(interface, "/owner") == "spinegate",
        "{interface}"
    );
    Ok(())
}

/// A handshake is finished.
///
/// # Errors
/// It is not.
pub fn agreed(client: &Client<'_>, offer: Offer) -> Result<Session> {
    let handshake = client.handshake(offer)?;
    handshake
        .session()
        .cloned()
        .with_context(|| format!("{offer:?} must be accepted, but: {handshake}"))
}

/// A handshake is refused for a reason.
///
/// # Errors
/// It is finished, or the audit log has another reason or none.
pub fn handshake_refused(lab: &Lab, client: &Client<'_>, offer: Offer, wanted: &str) -> Result<()> {
    let mark = lab.audit().mark()?;
    let handshake = client.handshake(offer)?;
    ensure!(
        handshake.session().is_none(),
        "must be refused ({wanted}), but: {handshake}"
    );
    let reason = lab.audit().refusal(mark, &client.address())?;
    ensure!(reason == wanted, "refused for {reason}, not for {wanted}");
    Ok(())
}

/// A request through the proxy gets this status.
///
/// # Errors
/// It gets another one, or no answer.
pub fn allowed(lab: &Lab, message: &Message, status: u16) -> Result<Answer> {
    let answer = lab.client(Host::Ssp).answer(message)?;
    ensure!(answer.status == status, "{message}: {answer}: {}", answer.body);
    Ok(answer)
}

/// A pointer of the provider is created through the proxy. Gives its id.
///
/// # Errors
/// It is not.
pub fn created(lab: &Lab, pointer: &Value) -> Result<String> {
    identifier_of(&allowed(lab, &Message::create(pointer).from(&PROVIDER), 201)?)
}

/// A request through the proxy is refused with this status and for this reason.
///
/// # Errors
/// It is answered otherwise, or the audit log has another reason or none.
pub fn refused(lab: &Lab, message: &Message, status: u16, wanted: &str) -> Result<Answer> {
    let mark = lab.audit().mark()?;
    let client = lab.client(Host::Ssp);
    let answer = client.answer(message)?;
    ensure!(
        answer.status == status,
        "{message} must get {status} ({wanted}), but: {answer}: {}",
        answer.body
    );
    let reason = lab.audit().refusal(mark, &client.address())?;
    ensure!(
        reason == wanted,
        "{message} was refused for {reason}, not for {wanted}"
    );
    Ok(answer)
}

/// A request is [refused], and nothing in the database is other than it was.
///
/// # Errors
/// Something of that is not so.
pub fn refused_unchanged(lab: &Lab, message: &Message, status: u16, wanted: &str) -> Result<Answer> {
    let before = lab.database().pointers()?;
    let answer = refused(lab, message, status, wanted)?;
    ensure!(
        lab.database().pointers()? == before,
        "{message} was refused, but changed the database"
    );
    Ok(answer)
}

/// The status of a pointer in the database.
///
/// # Errors
/// The database can't be read.
pub fn stored_status(lab: &Lab, id: &str) -> Result<String> {
    Ok(lab
        .database()
        .pointer(id)?
        .map_or_else(|| "absent".to_owned(), |stored| stored.status))
}
