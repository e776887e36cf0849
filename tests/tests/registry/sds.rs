//! The FHIR API, and bundles in files.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spinegate_tests::{
    json::at,
    lab::{Interaction, Lab},
    pki::SSP_FQDN,
    sds::{self, bundle},
    web::Web,
};
use toml::Table;

use super::{
    API, NAME, NEWCOMER, PARTY, acceptor, address, asids, authority, authority_file, configure, edge, fails,
    forget, has_access, source, state, text,
};

const BASE: &str = "/spine-directory/FHIR/R4";
const QUERY: &str = "organization=https%3A%2F%2Ffhir.nhs.uk%2FId%2Fods-organization-code%7CRR8\
                     &identifier=https%3A%2F%2Ffhir.nhs.uk%2FId%2FnhsServiceInteractionId%7C\
                     urn%3Anhs%3Anames%3Aservices%3Anrl%3ADocumentReference.search";

pub(crate) fn devices_of_the_api_have_access_and_pages_lead_nowhere_else(lab: &mut Lab) -> Result<()> {
    forget(lab)?;
    let web = Web::open_tls(&edge(lab), address(API)?, acceptor(lab)?)?;
    let all = asids(4);
    let (first, rest) = all.split_at(2);
    let (device, endpoint) = (
        format!("{BASE}/Device?{QUERY}"),
        format!("{BASE}/Endpoint?{QUERY}"),
    );
    let page = |asids: &[String], next: Option<String>| {
        let links = next.map(|next| json!({ "relation": "next", "url": next }));
        let mut bundle = bundle(asids.iter().map(|asid| self::device(asid)).collect());
        if let Some(bundle) = bundle.as_object_mut() {
            bundle.insert("link".to_owned(), links.into_iter().collect());
        }
        bundle.to_string()
    };
    web.publish(
        &device,
        page(first, Some(format!("https://{API}{BASE}/Device?page=2"))),
    );
    web.publish(&format!("{BASE}/Device?page=2"), page(rest, None));
    web.publish(&endpoint, bundle(vec![self::endpoint(SSP_FQDN)]).to_string());
    let key = lab.files().folder().join("apikey");
    fs::write(&key, "lab-key\n")?;
    with_sds(lab, |sds| {
        sds.insert("apikey_file".into(), text(&key).into());
    })?;
    lab.agent().order(&["registry", "sync", "sds"])?;
    ensure!(has_access(lab)?, "a Device has no access");
    ensure!(*at(&source(lab, "sds")?, "/systems") == 4);
    for head in web.heads() {
        let head = head.to_ascii_lowercase();
        ensure!(
            head.contains("apikey: lab-key") && head.contains("x-correlation-id: "),
            "{head}"
        );
    }

    for (what, answer, words) in [
        (
            "a page elsewhere",
            page(
                first,
                Some("https://elsewhere.lab.nhs.uk/Device?page=2".to_owned()),
            ),
            "which is elsewhere",
        ),
        (
            "an error in place of a bundle",
            r#"{"resourceType":"OperationOutcome"}"#.to_owned(),
            "not a Bundle",
        ),
        ("what is no JSON", "<html>".to_owned(), "no bundle"),
        ("too much", " ".repeat(2 << 20), "more than 1048576 bytes"),
    ] {
        web.publish(&device, answer);
        let said = fails(lab, "sds")?;
        ensure!(said.contains(words), "{what}: {said}");
        ensure!(has_access(lab)?, "{what}: its systems lost their access");
    }
    web.withdraw(&device);
    ensure!(fails(lab, "sds")?.contains("status 404"));
    let asked = web
        .asked()
        .iter()
        .filter(|line| line.contains("elsewhere"))
        .count();
    ensure!(asked == 0, "{:?}", web.asked());
    Ok(())
}

pub(crate) fn bundles_in_a_folder_are_a_source_of_their_own(lab: &mut Lab) -> Result<()> {
    forget(lab)?;
    let folder = lab.files().folder().join("bundles");
    fs::create_dir_all(&folder)?;
    let systems = bundle(vec![device(NEWCOMER.asid), endpoint(SSP_FQDN)]);
    fs::write(folder.join("systems.json"), systems.to_string())?;
    let (folder_text, state) = (text(&folder), text(&state(lab)));
    configure(lab, |registry| {
        let mut sds = Table::new();
        sds.insert("bundles".into(), vec![folder_text].into());
        registry.insert("state_dir".into(), state.into());
        registry.insert("sds".into(), sds.into());
    })?;
    lab.agent().order(&["registry", "sync", "sds"])?;
    ensure!(has_access(lab)?);
    fs::write(folder.join("systems.json"), "{")?;
    ensure!(fails(lab, "sds")?.contains("systems.json"));
    ensure!(has_access(lab)?, "a file that is not whole took access away");
    forget(lab)?;
    ensure!(
        !has_access(lab)?,
        "a source that is no longer configured gives access"
    );
    Ok(())
}

fn with_sds(lab: &Lab, edit: impl FnOnce(&mut Table)) -> Result<()> {
    authority(lab)?;
    let ca = authority_file(lab)?;
    let state = text(&state(lab));
    configure(lab, |registry| {
        let mut sds = Table::new();
        sds.insert("url".into(), format!("https://{API}{BASE}").into());
        sds.insert("ca".into(), ca.into());
        sds.insert("server_name".into(), NAME.into());
        sds.insert("organizations".into(), vec![NEWCOMER.ods.to_owned()].into());
        sds.insert(
            "interactions".into(),
            vec![Interaction::Search.urn().to_owned()].into(),
        );
        sds.insert("timeout".into(), "5s".into());
        sds.insert("max_bytes".into(), (1 << 20).into());
        edit(&mut sds);
        registry.insert("state_dir".into(), state.into());
        registry.insert("sds".into(), sds.into());
    })
}

fn device(asid: &str) -> Value {
    sds::device(asid, NEWCOMER.ods, PARTY, Interaction::Search)
}

fn endpoint(fqdn: &str) -> Value {
    sds::endpoint(fqdn, PARTY)
}
