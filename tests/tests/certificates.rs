//! Certificates outside of a handshake: what `cert inspect` says of them, what a broken file can't change, when they end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use openssl::{pkey::PKey, rsa::Rsa, x509::X509};
use serde_json::Value;
use spinegate_tests::{
    client::{Message, NHS_NUMBER, Offer},
    command::{Finished, Run},
    expect::{accepted, handshake_refused},
    json::at,
    lab::{CONSUMER, Lab, open_metrics, open_verdicts},
    netns::Host,
    pki::{EDGE_FQDN, Identity, KeyCache, Leaf, SSP_FQDN, Validity},
    suite::Suite,
};
use toml::Table;

/// So that a client can show a key that the gateway calls weak.
const WEAK: Offer = Offer::of(&["-tls1_2", "-cipher", "DHE-RSA-AES256-SHA256:@SECLEVEL=0"]);

fn main() -> ExitCode {
    Suite {
        name: "certificates",
        edit: |table| {
            // So many handshakes fail here that the proxy would be denied in the middle.
            open_verdicts(table);
            open_metrics(table);
        },
        tests: spinegate_tests::tests![
            an_inspected_certificate_gets_the_reason_that_the_handshake_gives,
            an_inspection_shows_the_certificate_its_chain_and_every_rule,
            a_supplier_inspects_with_the_public_files_alone,
            a_file_without_a_certificate_is_bad_usage,
            a_private_key_in_the_file_is_never_printed,
            a_reload_with_a_broken_file_leaves_everything_as_it_was,
            the_end_of_every_certificate_is_in_status_and_metrics,
            a_certificate_that_ends_soon_and_the_suites_of_nrl_are_warned_of,
            the_log_names_the_openssl_that_runs,
        ],
    }
    .run()
}

fn an_inspected_certificate_gets_the_reason_that_the_handshake_gives(lab: &mut Lab) -> Result<()> {
    let pki = lab.pki();
    let by_sub = |name, leaf: &Leaf| {
        own(
            lab,
            name,
            KeyCache::in_folder(lab.files().pki()).get(name)?,
            |key| pki.sub_authority.issue(leaf, key),
        )
    };
    let weak = || {
        let key = PKey::from_rsa(Rsa::generate(1024)?)?;
        own(lab, "weak", key, |key| {
            pki.sub_authority.issue(&Leaf::client(SSP_FQDN), key)
        })
    };
    let by_root = || {
        let key = KeyCache::in_folder(lab.files().pki()).get("by_root")?;
        own(lab, "by_root", key, |key| {
            pki.root_authority.issue(&Leaf::client(SSP_FQDN), key)
        })
    };
    let forged = || {
        let key = KeyCache::in_folder(lab.files().pki()).get("forged")?;
        own(lab, "forged", key, |key| {
            let issued = pki.sub_authority.issue(&Leaf::client(SSP_FQDN), key)?;
            let mut der = X509::from_pem(&issued)?.to_der()?;
            // The last byte is the signature's.
            *der.last_mut().context("an empty certificate")? ^= 1;
            Ok(X509::from_der(&der)?.to_pem()?)
        })
    };
    let client = Leaf::client(SSP_FQDN);
    let mut table = vec![
        (forged()?, Some("chain_invalid")),
        (by_root()?, Some("issuer_not_pinned")),
        (weak()?, Some("weak_key_or_digest")),
        (
            by_sub(
                "several_names",
                &client
                    .clone()
                    .without_san()
                    .and_common_name("elsewhere.lab.nhs.uk"),
            )?,
            Some("fqdn_mismatch"),
        ),
        (
            by_sub("other_san", &client.clone().with_san("elsewhere.lab.nhs.uk"))?,
            Some("fqdn_mismatch"),
        ),
        (
            by_sub("wildcard", &Leaf::client("*.lab.nhs.uk"))?,
            Some("fqdn_mismatch"),
        ),
    ];
    for (leaf, reason) in [
        ("good", None),
        ("system", None),
        ("cn_only", None),
        ("wrong_fqdn", Some("fqdn_mismatch")),
        ("expired", Some("certificate_expired")),
        ("not_yet_valid", Some("certificate_not_yet_valid")),
        ("revoked", Some("certificate_revoked")),
        ("self_signed", Some("chain_unknown_ca")),
        ("rogue", Some("chain_unknown_ca")),
        ("other_sub", Some("issuer_not_pinned")),
        ("no_client_auth", Some("wrong_usage")),
    ] {
        table.push((pki.leaf(leaf)?.clone(), reason));
    }
    for (identity, reason) in table {
        let cert = identity.cert.clone();
        let client = lab.client(Host::Ssp).with_identity(identity);
        match reason {
            Some(reason) => handshake_refused(lab, &client, WEAK, reason),
            None => accepted(&client),
        }
        .with_context(|| cert.display().to_string())?;
        let found = inspected(lab, &cert)?;
        ensure!(
            at(&found, "/refused/reason").as_str() == reason,
            "the handshake says {reason:?}, but the inspection: {found:#}"
        );
    }
    Ok(())
}

fn an_inspection_shows_the_certificate_its_chain_and_every_rule(lab: &mut Lab) -> Result<()> {
    let good = inspected(lab, &lab.pki().leaf("good")?.cert)?;
    for (pointer, wanted) in [
        ("/outcome", "pass"),
        ("/certificate/subject", "O=nhs,OU=Devices,CN=ssp.lab.nhs.uk"),
        ("/certificate/issuer", "O=nhs,OU=CA,CN=Lab Authentication"),
        ("/certificate/common_names/0", SSP_FQDN),
        ("/certificate/alternative_names/0", "DNS:ssp.lab.nhs.uk"),
        ("/certificate/key", "RSA, 2048 bits"),
        ("/certificate/signature", "sha256WithRSAEncryption"),
        ("/certificate/key_usage/0", "digitalSignature"),
        ("/certificate/extended_key_usage/1", "clientAuth"),
        ("/chain/1/subject", "O=nhs,OU=CA,CN=Lab Authentication"),
        ("/chain/2/subject", "O=nhs,OU=CA,CN=Lab Root Authority"),
    ] {
        ensure!(
            *at(&good, pointer) == wanted,
            "{pointer} is not {wanted}: {good:#}"
        );
    }
    ensure!(*at(&good, "/certificate/days_left") == 729, "{good:#}");
    ensure!(
        *at(&good, "/chain/1/in_file") == true && *at(&good, "/chain/2/in_file") == false,
        "{good:#}"
    );

    // Revoked is the fourth of seven rules; the leaf alone decides what comes after.
    let revoked = inspected(lab, &lab.pki().leaf("revoked")?.cert)?;
    ensure!(
        outcomes(&revoked) == ["pass", "pass", "pass", "fail", "pass", "pass", "pass"],
        "{revoked:#}"
    );
    // No CA of ours, and no certificate of ours either: what else is wrong is told in the same breath.
    let rogue = inspected(lab, &lab.pki().leaf("rogue")?.cert)?;
    ensure!(
        outcomes(&rogue)
            == [
                "fail",
                "not_reached",
                "not_reached",
                "not_reached",
                "pass",
                "pass",
                "pass"
            ],
        "{rogue:#}"
    );

    let printed = inspect(lab, &lab.pki().leaf("wrong_fqdn")?.cert, &[])?;
    ensure!(printed.code == Some(1), "{:?}", printed.code);
    for words in [
        "refused: fqdn_mismatch",
        "elsewhere.lab.nhs.uk",
        "mend",
        "accepted names",
        "ssp.lab.nhs.uk",
    ] {
        ensure!(
            printed.stdout.contains(words),
            "{words} is not in\n{}",
            printed.stdout
        );
    }
    Ok(())
}

fn a_supplier_inspects_with_the_public_files_alone(lab: &mut Lab) -> Result<()> {
    let pki = lab.pki();
    let public = |leaf: &str, more: &[&str]| -> Result<Finished> {
        let run = Run::new(lab.binary())
            .args(["cert", "inspect", "--json", "--fqdn", SSP_FQDN, "--roots"])
            .arg(&pki.root)
            .arg("--issuers")
            .arg(&pki.sub)
            .args(more)
            .arg(&pki.leaf(leaf)?.cert);
        run.output()
    };
    let crls = text(&pki.crls);
    for (leaf, more, reason, revocation) in [
        ("good", &[][..], None, "not_checked"),
        ("revoked", &[], None, "not_checked"),
        ("good", &["--crl", &crls], None, "pass"),
        ("revoked", &["--crl", &crls], Some("certificate_revoked"), "fail"),
        ("system", &[], Some("fqdn_mismatch"), "not_checked"),
        ("rogue", &[], Some("chain_unknown_ca"), "not_reached"),
    ] {
        let finished = public(leaf, more)?;
        let found: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.said())?;
        ensure!(
            finished.code == Some(i32::from(reason.is_some()))
                && at(&found, "/refused/reason").as_str() == reason
                && *at(&found, "/rules/3/outcome") == revocation,
            "{leaf} {more:?}: {:?} {found:#}",
            finished.code
        );
    }
    let words = Run::new(lab.binary())
        .args(["cert", "inspect", "--fqdn", SSP_FQDN, "--roots"])
        .arg(&pki.root)
        .arg("--issuers")
        .arg(&pki.sub)
        .arg(&pki.leaf("good")?.cert)
        .success()?;
    ensure!(
        words.starts_with("pass, but revocation was not checked"),
        "{words}"
    );
    let root_alone = text(&pki.crls.join("root.pem"));
    let finished = public("good", &["--crl", &root_alone])?;
    ensure!(
        finished.code == Some(2) && finished.stderr.contains("--crl") && !finished.stderr.contains("tls."),
        "{:?}: {}",
        finished.code,
        finished.stderr
    );
    Ok(())
}

fn a_file_without_a_certificate_is_bad_usage(lab: &mut Lab) -> Result<()> {
    let pki = lab.pki();
    for (file, words) in [
        (pki.crls.join("sub.pem"), "holds no certificate"),
        (pki.leaf("good")?.key.clone(), "holds no certificate"),
        (lab.files().config(), "holds no certificate"),
        (lab.files().pki().join("absent.pem"), "No such file"),
    ] {
        let finished = inspect(lab, &file, &[])?;
        ensure!(
            finished.code == Some(2) && finished.stderr.contains(words) && finished.stdout.is_empty(),
            "{}: {:?} {}",
            file.display(),
            finished.code,
            finished.said()
        );
    }
    Ok(())
}

fn a_private_key_in_the_file_is_never_printed(lab: &mut Lab) -> Result<()> {
    let good = lab.pki().leaf("good")?;
    let key = fs::read_to_string(&good.key)?;
    let both = lab.files().pki().join("both.pem");
    fs::write(&both, [key.clone(), fs::read_to_string(&good.cert)?].concat())?;
    for format in [&["--json"][..], &[]] {
        let finished = inspect(lab, &both, format)?;
        ensure!(finished.code == Some(0), "{}", finished.said());
        let leaked = key
            .lines()
            .filter(|line| line.len() > 40)
            .find(|line| finished.said().contains(line));
        ensure!(leaked.is_none(), "the key was printed");
    }
    let said = inspect(lab, &both, &[])?.stdout;
    ensure!(said.contains("private key too, which was left alone"), "{said}");

    let der = lab.files().pki().join("good.der");
    fs::write(
        &der,
        openssl::x509::X509::from_pem(&fs::read(&good.cert)?)?.to_der()?,
    )?;
    ensure!(
        *at(&inspected(lab, &der)?, "/outcome") == "pass",
        "a certificate in DER does not pass"
    );
    Ok(())
}

fn a_reload_with_a_broken_file_leaves_everything_as_it_was(lab: &mut Lab) -> Result<()> {
    let pki = lab.pki();
    let rogue_root = fs::read(&pki.server_ca)?;
    let torn = |path: &Path| -> Result<Vec<u8>> {
        let whole = fs::read(path)?;
        Ok(whole.get(..whole.len() / 2).unwrap_or_default().to_vec())
    };
    let table = [
        (
            "tls.certificate",
            pki.server.cert.clone(),
            torn(&pki.server.cert)?,
        ),
        (
            "tls.private_key",
            pki.server.key.clone(),
            fs::read(&pki.leaf("good")?.key)?,
        ),
        ("tls.client.roots", pki.root.clone(), torn(&pki.root)?),
        ("tls.client.issuers", pki.root.clone(), rogue_root),
        ("tls.client.issuers", pki.sub.clone(), torn(&pki.sub)?),
        (
            "tls.client.crls",
            pki.crls.join("sub.pem"),
            torn(&pki.crls.join("sub.pem"))?,
        ),
        (
            "tls.client.crls",
            pki.crls.join("root.pem"),
            fs::read(pki.crls.join("sub.pem"))?,
        ),
    ];
    let in_force = || -> Result<Vec<Value>> {
        let status = lab.agent().json(&["status"])?;
        let pointers = [
            "/certificates",
            "/policy_generation",
            "/crls/0/number",
            "/crls/0/entries",
            "/crls/1/number",
            "/crls/1/entries",
        ];
        Ok(pointers.map(|pointer| at(&status, pointer).clone()).to_vec())
    };
    let before = in_force()?;
    for (key, path, broken) in &table {
        let sound = fs::read(path)?;
        let statuses =
            lab.client(Host::Ssp)
                .before_and_after(&Message::search(NHS_NUMBER).from(&CONSUMER), || {
                    fs::write(path, broken)?;
                    let reload = lab.agent().output(&["reload"])?;
                    fs::write(path, &sound)?;
                    ensure!(
                        reload.code == Some(2) && reload.stderr.contains(key),
                        "{key}: {:?}: {}",
                        reload.code,
                        reload.said()
                    );
                    accepted(&lab.client(Host::Ssp))?;
                    for (leaf, reason) in [("revoked", "certificate_revoked"), ("rogue", "chain_unknown_ca")]
                    {
                        handshake_refused(lab, &lab.client(Host::Ssp).with(leaf)?, Offer::RIGHT, reason)?;
                    }
                    Ok(())
                });
        let statuses = statuses.with_context(|| format!("{key}, {}", path.display()))?;
        ensure!(
            statuses == (200, Some(200)),
            "{key}: the open connection got {statuses:?}"
        );
        let after = in_force()?;
        ensure!(after == before, "{key}: {before:?} became {after:?}");
    }
    lab.agent().order(&["reload"]).map(drop)
}

fn the_end_of_every_certificate_is_in_status_and_metrics(lab: &mut Lab) -> Result<()> {
    let agent = lab.agent();
    let status = agent.json(&["status"])?;
    for (index, what, days) in [
        (0, "own_certificate", 729),
        (1, "issuer", 2554),
        (2, "root", 2554),
    ] {
        let certificate = at(&status, &format!("/certificates/{index}"));
        ensure!(
            *at(certificate, "/what") == what && *at(certificate, "/days_left") == days,
            "{what}: {certificate}"
        );
    }
    let printed = agent.order(&["status"])?;
    ensure!(
        printed.contains("DAYS LEFT") && printed.contains("CN=Lab Authentication"),
        "{printed}"
    );

    let metrics = lab.metrics()?;
    for (kind, pointer) in [
        ("own_certificate", "/certificates/0/ends"),
        ("issuer", "/certificates/1/ends"),
        ("root", "/certificates/2/ends"),
        ("crl", "/crls/0/next_update"),
    ] {
        let ends = at(&status, pointer)
            .as_str()
            .with_context(|| format!("no {pointer}: {status:#}"))?;
        let ends = humantime::parse_rfc3339(ends)?
            .duration_since(std::time::UNIX_EPOCH)?
            .as_secs();
        let line = format!("spinegate_expiry_timestamp_seconds{{kind=\"{kind}\"}} {ends}");
        ensure!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    Ok(())
}

fn a_certificate_that_ends_soon_and_the_suites_of_nrl_are_warned_of(lab: &mut Lab) -> Result<()> {
    let key = PKey::private_key_from_pem(&fs::read(&lab.pki().server.key)?)?;
    let ending = lab.files().pki().join("ending.pem");
    let leaf = Leaf::server(EDGE_FQDN).valid(Validity::days(-1, 20));
    fs::write(&ending, leaf.self_signed(&key)?)?;
    let mut table: Table = toml::from_str(&fs::read_to_string(lab.files().config())?)?;
    let tls = table
        .get_mut("tls")
        .and_then(toml::Value::as_table_mut)
        .context("no [tls]")?;
    tls.insert("certificate".into(), text(&ending).into());
    tls.insert("suites".into(), "nrl".into());
    let altered = lab.files().folder().join("ending.toml");
    fs::write(&altered, toml::to_string(&table)?)?;
    let checked = lab.at_edge(&altered, &["check"])?;
    ensure!(checked.code == Some(0), "{}", checked.said());
    let warning = |key: &str| {
        let lines = checked.stdout.lines();
        lines
            .filter(|line| line.starts_with("warning: "))
            .find(|line| line.contains(key))
            .unwrap_or_default()
    };
    let ends = warning("tls.certificate:");
    ensure!(
        ends.contains("ending.pem") && (ends.contains("in 19 days") || ends.contains("in 20 days")),
        "{}",
        checked.stdout
    );
    let suites = warning("tls.suites:");
    for suite in [
        "DHE-RSA-AES256-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-SHA,",
        "R7",
    ] {
        // The last of the list ends the line.
        let listed = format!("{suites},");
        ensure!(listed.contains(suite), "{suite} is not in {suites:?}");
    }
    Ok(())
}

fn the_log_names_the_openssl_that_runs(lab: &mut Lab) -> Result<()> {
    let status = lab.agent().json(&["status"])?;
    let openssl = at(&status, "/openssl").as_str().context("no OpenSSL in status")?;
    let log = fs::read_to_string(lab.files().log("agent"))?;
    let serving = log
        .lines()
        .find(|line| line.contains("serving"))
        .context("the log has no `serving`")?;
    ensure!(serving.contains(openssl), "{openssl} is not in {serving}");
    Ok(())
}

fn inspect(lab: &Lab, file: &Path, more: &[&str]) -> Result<Finished> {
    let file = text(file);
    let arguments = [&["cert", "inspect", file.as_str()], more].concat();
    lab.at_edge(&lab.files().config(), &arguments)
}

/// What an inspection says; its exit code says the same.
fn inspected(lab: &Lab, file: &Path) -> Result<Value> {
    let finished = inspect(lab, file, &["--json"])?;
    let found: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.said())?;
    let passes = *at(&found, "/outcome") == "pass";
    ensure!(
        finished.code == Some(i32::from(!passes)),
        "{:?}: {found:#}",
        finished.code
    );
    Ok(found)
}

fn outcomes(inspection: &Value) -> Vec<&str> {
    let rules = at(inspection, "/rules").as_array().into_iter().flatten();
    rules.filter_map(|rule| at(rule, "/outcome").as_str()).collect()
}

/// A certificate of one's own making, and its key, as files.
fn own(
    lab: &Lab,
    name: &str,
    key: PKey<openssl::pkey::Private>,
    issue: impl FnOnce(&PKey<openssl::pkey::Private>) -> Result<Vec<u8>>,
) -> Result<Identity> {
    let file = |extension: &str| -> PathBuf { lab.files().pki().join(format!("{name}.{extension}")) };
    let identity = Identity {
        cert: file("pem"),
        key: file("key"),
    };
    fs::write(&identity.cert, issue(&key)?)?;
    fs::write(&identity.key, key.private_key_to_pem_pkcs8()?)?;
    Ok(identity)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
