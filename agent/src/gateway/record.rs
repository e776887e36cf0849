//! What the gateway leaves behind of each decision: a counter, a strike where it was a failure, a line in the audit log.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use spinegate_common::Reason;

use super::{
    Gateway, connection::Connection, errors, farewell::Farewell, screen::Violation, upstream::UpstreamError,
};
use crate::{
    audit::{self, Certificate, Crl, Decision, Event, Record, Tls},
    config::OnFailure,
    keeper::KeeperError,
    tls::{CertificateSummary, Refusal, Session, VerifiedClient},
    verdict::Sentence,
};

impl Gateway {
    pub(super) fn record_failed_handshake(&self, peer: SocketAddr, refusal: &Refusal) {
        if refusal.reason == Reason::HandshakeQueueFull {
            // It weighs nothing, and comes in floods alone.
            return self.turn_away(peer, refusal.reason);
        }
        self.counters.handshake_refused(refusal.reason);
        let mut record = Record::new(SystemTime::now(), Event::Connection, Decision::Refuse);
        record.refuse(refusal.reason);
        record.peer = Some(peer);
        describe(refusal, &mut record);
        self.write_or_log(&record);
        self.strike(peer, refusal.reason);
    }

    /// A connection is closed before its handshake. It is counted in any case; in a flood not each has a line of its own.
    pub(super) fn turn_away(&self, peer: SocketAddr, reason: Reason) {
        self.counters.handshake_refused(reason);
        let Some(unwritten) = self.burst.line(reason, Instant::now()) else {
            return;
        };
        let mut record = Record::new(SystemTime::now(), Event::Connection, Decision::Refuse);
        record.refuse(reason);
        record.peer = Some(peer);
        if unwritten > 0 {
            record.detail = Some(format!("and {unwritten} more like it since the last line"));
        }
        self.write_or_log(&record);
    }

    /// An open connection is cut off because its client's certificate no longer passes.
    pub(super) fn record_invalidated(&self, connection: &Connection, refusal: &Refusal) {
        self.counters.connection_invalidated(refusal.reason);
        let mut record = connection.record(Decision::Refuse);
        record.event = Event::Connection;
        record.refuse(refusal.reason);
        describe(refusal, &mut record);
        self.write_or_log(&record);
        let (peer, reason) = (connection.peer, refusal.reason);
        if reason == Reason::CertificateRevoked {
            self.record_sentence(peer, self.verdicts.condemn(peer.ip(), reason, Instant::now()));
        } else {
            self.strike(peer, reason);
        }
    }

    /// An open connection ended with a record that its client can't have meant.
    pub(super) fn record_broken(&self, connection: &Connection, refusal: &Refusal) {
        self.counters.connection_broken(refusal.reason);
        let mut record = connection.record(Decision::Refuse);
        record.event = Event::Connection;
        record.refuse(refusal.reason);
        record.detail = Some(refusal.detail.clone());
        self.write_or_log(&record);
        self.strike(connection.peer, refusal.reason);
    }

    /// A head broke a rule of the screen: no part of it became a request. Gives the answer.
    pub(super) fn refuse_head(
        &self,
        connection: &Connection,
        violation: Violation,
        line: Option<(&str, &str)>,
    ) -> Vec<u8> {
        let reason = violation.rule.reason();
        let mut record = connection.record(Decision::Refuse);
        record.refuse(reason);
        record.detail = Some(violation.to_string());
        record.position = Some(violation.position as u64);
        let farewell = Farewell::new(violation, &record.decision_id.to_string());
        let (method, target) = line.unwrap_or_default();
        let mut request = audit::Request::new(record.decision_id.to_string(), method, target);
        request.status = Some(farewell.status().as_u16());
        record.request = Some(Arc::new(request));
        self.counters.request_refused(reason);
        self.write_or_log(&record);
        self.strike(connection.peer, reason);
        farewell.render(method, SystemTime::now())
    }

    /// A body broke a rule of the screen after its request was answered: nothing behind it is read.
    pub(super) fn refuse_rest(&self, connection: &Connection, violation: Violation) {
        let reason = violation.rule.reason();
        self.counters.request_refused(reason);
        let mut record = connection.record(Decision::Refuse);
        record.refuse(reason);
        record.detail = Some(violation.to_string());
        record.position = Some(violation.position as u64);
        self.write_or_log(&record);
        self.strike(connection.peer, reason);
    }

    /// hyper has answered 400 or 431 and closes, though the screen found nothing.
    pub(super) fn refuse_malformed(&self, connection: &Connection, detail: &str) {
        let reason = Reason::RequestMalformed;
        self.counters.request_refused(reason);
        let mut record = connection.record(Decision::Refuse);
        record.refuse(reason);
        record.detail = Some(detail.to_owned());
        self.write_or_log(&record);
        self.strike(connection.peer, reason);
    }

    /// A client does not take its answer, which was recorded before.
    pub(super) fn record_stalled(&self, connection: &Connection) {
        let reason = Reason::AnswerStalled;
        self.counters.answer_broke_off(reason);
        let mut record = connection.record(Decision::Refuse);
        record.refuse(reason);
        self.write_or_log(&record);
        self.strike(connection.peer, reason);
    }

    /// A connection is closed in order, since it has served for long enough. Nothing is refused.
    pub(super) fn record_retired(&self, connection: &Connection, reason: Reason) {
        self.counters.connection_retired(reason);
        let mut record = connection.record(Decision::Done);
        record.event = Event::Connection;
        record.reason = Some(reason);
        self.write_or_log(&record);
    }

    /// An upstream's answer broke off on its way to the client, after its line in the log.
    pub(super) fn record_broken_answer(
        &self,
        connection: &Connection,
        request: Arc<audit::Request>,
        error: UpstreamError,
    ) {
        tracing::warn!(
            reason = error.reason.as_str(),
            detail = error.detail,
            "an answer broke off"
        );
        self.counters.answer_broke_off(error.reason);
        let mut record = connection.record(Decision::Refuse);
        record.request = Some(request);
        record.refuse(error.reason);
        record.detail = Some(error.detail);
        self.write_or_log(&record);
    }

    /// Counts a failure against its source, and says so when that became a verdict.
    pub(super) fn strike(&self, peer: SocketAddr, reason: Reason) {
        self.record_sentence(peer, self.verdicts.fail(peer.ip(), reason, Instant::now()));
    }

    fn record_sentence(&self, peer: SocketAddr, sentence: Result<Option<Sentence>, KeeperError>) {
        match sentence {
            Ok(None) => {}
            Ok(Some(sentence)) => {
                self.counters.verdict_issued();
                let mut record = Record::new(SystemTime::now(), Event::Verdict, Decision::Deny);
                record.reason = Some(sentence.reason);
                record.source = Some(peer.ip());
                record.detail = Some(format!("for {}", humantime::format_duration(sentence.ttl)));
                self.write_or_log(&record);
            }
            Err(error) => tracing::error!(source = %peer.ip(), %error, "the verdict is not in force"),
        }
    }

    /// Writes a decision that stands whether or not it can be recorded: a refusal, or a verdict.
    pub(super) fn write_or_log(&self, record: &Record) {
        self.report(record);
        if let Err(error) = self.audit.write(record) {
            tracing::error!(%error, "a decision could not be recorded");
        }
    }

    /// Shows a refused request to who watches `spinegate errors`.
    fn report(&self, record: &Record) {
        if let Some(report) = errors::report(record) {
            self.errors.publish(report);
        }
    }

    /// Writes a decision, and waits until the line is as safe as `audit.durability` asks. False if its answer must be
    /// withheld.
    pub(super) async fn is_recorded(&self, record: &Record) -> bool {
        self.report(record);
        let Err(error) = self.audit.commit(record).await else {
            return true;
        };
        match self.audit.on_failure() {
            OnFailure::Refuse => {
                tracing::error!(%error, "a decision could not be recorded: the answer is withheld");
                false
            }
            OnFailure::Serve => {
                tracing::error!(%error, "a decision could not be recorded: the answer goes out all the same");
                true
            }
        }
    }
}

impl Connection {
    pub(super) fn record_handshake(&self, session: &Session) {
        let gateway = &self.gateway;
        gateway.counters.handshake_accepted(session);
        if let Err(error) = gateway.verdicts.trust(self.peer.ip()) {
            tracing::warn!(source = %self.peer.ip(), %error, "the source keeps the small handshake budget");
        }
        let mut record = Record::new(SystemTime::now(), Event::Connection, Decision::Allow);
        record.peer = Some(self.peer);
        record.certificate = Some(self.certificate.clone());
        record.tls = Some(Tls {
            version: session.version.to_owned(),
            cipher: session.cipher.clone(),
            extended_master_secret: session.extended_master_secret,
            encrypt_then_mac: session.encrypt_then_mac,
            resumed: session.resumed,
        });
        gateway.write_or_log(&record);
    }

    /// The record of a request on this connection.
    pub(super) fn record(&self, decision: Decision) -> Record {
        let mut record = Record::new(SystemTime::now(), Event::Request, decision);
        record.peer = Some(self.peer);
        record.certificate = Some(Arc::clone(&self.certificate));
        record
    }
}

/// A client's certificate, as every record of its connection has it.
pub(super) fn described(client: &VerifiedClient) -> Arc<Certificate> {
    Arc::new(certificate(client.certificate(), Some(client)))
}

/// What a refusal says of certificate and CRL.
fn describe(refusal: &Refusal, record: &mut Record) {
    if let Some(summary) = &refusal.certificate {
        let known = record
            .certificate
            .get_or_insert_with(|| Arc::new(certificate(summary, None)));
        let known = Arc::make_mut(known);
        known.san.clone_from(&summary.san);
        known.not_before = Some(summary.not_before.clone());
    }
    record.depth = refusal.depth;
    record.crl = refusal.crl.as_deref().map(|crl| Crl {
        issuer: crl.issuer.clone(),
        number: crl.number.clone(),
        age_seconds: crl.age.as_secs(),
        next_update: crl.next_update.clone(),
    });
    record.detail = Some(refusal.detail.clone());
}

fn certificate(summary: &CertificateSummary, client: Option<&VerifiedClient>) -> Certificate {
    Certificate {
        fqdn: client.map(|client| client.fqdn().to_string()),
        subject: summary.subject.clone(),
        issuer: summary.issuer.clone(),
        serial: summary.serial.clone(),
        sha256: summary.sha256.clone(),
        san: Vec::new(),
        not_before: None,
        not_after: summary.not_after.clone(),
    }
}
