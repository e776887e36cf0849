//! What two scanners of others say of the gateway. Whatever they find is in a list here with its reason, or a failure.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use spinegate_tests::{
    command::Run,
    expect::serves,
    json::at,
    lab::{self, Lab},
    netns::{Family, Host},
    suite::Suite,
    tools,
};

const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    Suite {
        name: "scanners",
        // They make some hundred handshakes that fail.
        edit: lab::open_limits,
        tests: spinegate_tests::tests![
            sslyze_finds_one_suite_and_no_hole,
            testssl_finds_nothing_that_the_mandated_suite_does_not_bring_with_it,
        ],
    }
    .run()
}

/// With a client's certificate, so that what comes after the handshake is tested too.
fn sslyze_finds_one_suite_and_no_hole(lab: &mut Lab) -> Result<()> {
    let report = lab.files().folder().join("sslyze.json");
    let good = lab.pki().leaf("good")?;
    Run::inside(&lab.network().namespace(Host::Ssp), tools::program("sslyze")?)
        .args(["--mozilla_config=disable", "--keyform", "PEM", "--cert"])
        .arg(&good.cert)
        .arg("--key")
        .arg(&good.key)
        // Not --sslv2: its old OpenSSL does not take the key.
        .args(["--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"])
        .args(["--compression", "--early_data", "--elliptic_curves", "--ems", "--fallback"])
        .args(["--heartbleed", "--openssl_ccs", "--reneg", "--resum", "--robot", "--json_out"])
        .arg(&report)
        .arg(lab.gateway(Family::V4).to_string())
        .within(LIMIT)
        .success()?;
    let report: Value = serde_json::from_str(&std::fs::read_to_string(report)?)?;
    let found = at(&report, "/server_scan_results/0/scan_result");
    for (version, suites) in [
        ("ssl_3_0", vec![]),
        ("tls_1_0", vec![]),
        ("tls_1_1", vec![]),
        ("tls_1_2", vec!["TLS_DHE_RSA_WITH_AES_256_CBC_SHA256"]),
        ("tls_1_3", vec![]),
    ] {
        let accepted = at(
            found,
            &format!("/{version}_cipher_suites/result/accepted_cipher_suites"),
        );
        let accepted = accepted
            .as_array()
            .with_context(|| format!("no result for {version}"))?;
        let accepted: Vec<_> = accepted.iter().map(|one| at(one, "/cipher_suite/name")).collect();
        ensure!(accepted == suites, "{version}: {accepted:?}");
    }
    for (place, wanted) in [
        ("tls_compression/result/supports_compression", json!(false)),
        ("tls_1_3_early_data/result/supports_early_data", json!(false)),
        (
            "openssl_ccs_injection/result/is_vulnerable_to_ccs_injection",
            json!(false),
        ),
        ("tls_fallback_scsv/result/supports_fallback_scsv", json!(true)),
        ("heartbleed/result/is_vulnerable_to_heartbleed", json!(false)),
        (
            "robot/result/robot_result",
            json!("NOT_VULNERABLE_RSA_NOT_SUPPORTED"),
        ),
        (
            "session_renegotiation/result/supports_secure_renegotiation",
            json!(true),
        ),
        (
            "session_renegotiation/result/client_renegotiations_success_count",
            json!(0),
        ),
        (
            "session_resumption/result/session_id_resumption_result",
            json!("NOT_SUPPORTED"),
        ),
        (
            "session_resumption/result/tls_ticket_resumption_result",
            json!("NOT_SUPPORTED"),
        ),
        ("elliptic_curves/result/supports_ecdh_key_exchange", json!(false)),
        (
            "tls_extended_master_secret/result/supports_ems_extension",
            json!(true),
        ),
    ] {
        let value = at(found, &format!("/{place}"));
        ensure!(*value == wanted, "{place}: {value}");
    }
    serves(lab)
}

/// A line of testssl's report.
#[derive(Debug, Deserialize)]
struct Finding {
    id: String,
    severity: String,
    finding: String,
}

/// Findings of testssl that are no fault of the gateway's, each with the reason.
const ALLOWED: [(&str, &str); 8] = [
    ("cipherlist_AVERAGE", "the mandated suite is one with CBC (R7)"),
    (
        "cipherlist_STRONG",
        "the mandated suite is the only one (R7), and no AEAD",
    ),
    (
        "LUCKY13",
        "said of every suite with CBC; OpenSSL takes the same time for each padding, and encrypt-then-MAC is taken up",
    ),
    (
        "cert_validityPeriod",
        "the lab's certificate; the operator's is the operator's",
    ),
    (
        "cert_revocation",
        "the lab's certificate; the operator's is the operator's",
    ),
    ("engine_problem", "of the scanner's own OpenSSL"),
    (
        "secure_client_renego",
        "not tested without a client's certificate; sslyze does, and the probes",
    ),
    (
        "BREACH",
        "not tested without a client's certificate; the gateway compresses nothing",
    ),
];
/// What the report must hold, or it was not of a whole scan.
const TESTED: [&str; 16] = [
    "SSLv2",
    "SSLv3",
    "TLS1",
    "TLS1_1",
    "TLS1_2",
    "TLS1_3",
    "PFS",
    "DH_groups",
    "cert_trust",
    "heartbleed",
    "CCS",
    "ROBOT",
    "CRIME_TLS",
    "SWEET32",
    "LOGJAM",
    "LUCKY13",
];

fn testssl_finds_nothing_that_the_mandated_suite_does_not_bring_with_it(lab: &mut Lab) -> Result<()> {
    let report = lab.files().folder().join("testssl.json");
    let gateway = lab.gateway(Family::V4);
    let scan = Run::inside(&lab.network().namespace(Host::Ssp), "testssl")
        .args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none"])
        .args(["--connect-timeout", "5", "--openssl-timeout", "5"])
        .args(["--ip", &gateway.ip().to_string(), "--add-ca"])
        .arg(&lab.pki().server_ca)
        .arg("--jsonfile")
        .arg(&report)
        .args([
            "--protocols",
            "--std",
            "--pfs",
            "--server-defaults",
            "--vulnerable",
        ])
        .arg(gateway.to_string())
        .within(LIMIT)
        .output()?;
    // Its exit code counts findings.
    ensure!(!scan.timed_out, "testssl did not end within {LIMIT:?}");
    let report = std::fs::read_to_string(report).with_context(|| scan.said())?;
    let findings: Vec<Finding> = serde_json::from_str(&report).context("testssl's report")?;
    let missing: Vec<_> = TESTED
        .iter()
        .filter(|id| !findings.iter().any(|one| one.id == **id))
        .collect();
    ensure!(
        missing.is_empty(),
        "testssl did not test {missing:?}: {}",
        scan.said()
    );
    let bad: Vec<_> = findings
        .iter()
        .filter(|one| !matches!(one.severity.as_str(), "OK" | "INFO"))
        .filter(|one| !ALLOWED.iter().any(|(id, _)| *id == one.id))
        .collect();
    ensure!(bad.is_empty(), "{bad:#?}");
    let versions = findings
        .iter()
        .filter(|one| one.id.starts_with("TLS1") || one.id.starts_with("SSLv"));
    for one in versions {
        let offered = !one.finding.starts_with("not offered");
        ensure!(offered == (one.id == "TLS1_2"), "{one:?}");
    }
    serves(lab)
}
