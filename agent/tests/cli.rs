//! The built binary as an operator meets it: usage, exit codes, tables and JSON.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test says what it expects by panicking; clippy spares only the bodies of test functions"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use spinegate::{
    config::SourceKind,
    control::{
        Access, Addition, CertificateStatus, Check, Decision, DropReport, Errors, Estate, Explanation,
        Failure, FailureKind, Journal, Operations, Origin, Outcome, PacketExplanation, Peer, Rebuff, Request,
        Response, Server, SourceEntry, Stats, Status, Tally, Told, UpstreamStatus, VerdictEntry, VerdictKind,
    },
    metrics::{Counters, Exporter, Observed, Pages, Readiness},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const SOUND: &str = "\
[filter]
mode = \"off\"
[listen]
addresses = [\"127.0.0.1:8443\"]
[tls]
certificate = \"server.pem\"
private_key = \"server.key\"
[tls.client]
roots = [\"root.pem\"]
issuers = [\"sub.pem\"]
fqdns = [\"ssp.example.nhs.uk\"]
crls = [\"crl\"]
[gateway]
asid = \"999999999999\"
upstream = \"http://127.0.0.1:8080\"
[registry]
file = \"registry.toml\"
[control]
socket = \"control.sock\"
[audit]
file = \"audit.jsonl\"
";

/// A folder with a configuration in it.
fn folder_with(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.toml"), config).unwrap();
    folder
}

fn spinegate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spinegate"))
        .current_dir(folder)
        .args(["--config", "a.toml"])
        .args(arguments)
        .env_remove("SPINEGATE_LOG")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code, not a signal")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn bad_usage_ends_with_2_and_says_what_was_expected() {
    let folder = folder_with(SOUND);
    let table: [(&[&str], &str); 14] = [
        (&[], "Usage: spinegate"),
        (&["fly"], "unrecognized subcommand 'fly'"),
        (&["status", "--jsn"], "unexpected argument '--jsn'"),
        (
            &["sources", "add", "10.0.0.1/8", "--name", "n"],
            "write \"10.0.0.0/8\" for the network",
        ),
        (
            &["sources", "add", "10.0.0.0/8", "--name", "n", "--service", "443"],
            "as in tcp/443",
        ),
        (
            &["verdicts", "add", "10.0.0.1", "--ttl", "5 parsecs"],
            "write a time span such as 10m",
        ),
        (&["explain", "--asid", "1"], "--interaction"),
        (
            &["explain"],
            "<--asid <ASID>|--request <FILE>|--decision <ID>|--packet <PACKET>|--pcap <FILE>>",
        ),
        (
            &["explain", "--asid", "1", "--interaction", "x", "--pcap", "a.pcap"],
            "'--asid <ASID>' cannot be used with '--pcap <FILE>'",
        ),
        (
            &[
                "explain",
                "--packet",
                "tcp 192.0.2.7 > 443",
                "--fqdn",
                "a.example",
            ],
            "cannot be used with",
        ),
        (
            &["explain", "--packet", "tcp 192.0.2.7 443"],
            "word 3, \"443\": it is not `>`",
        ),
        (
            &["events", "--reason", "verdict_deni"],
            "a similar value exists: 'verdict_deny'",
        ),
        (&["events", "--json", "--pcap", "-"], "both want standard output"),
        (&["top", "--json"], "--once"),
    ];
    for (arguments, said) in table {
        let output = spinegate(folder.path(), arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(
            stderr(&output).contains(said),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    let folder = folder_with(SOUND);
    assert_eq!(code(&spinegate(folder.path(), &["--help"])), 0);
    let version = spinegate(folder.path(), &["--version"]);
    assert_eq!(
        (code(&version), stdout(&version)),
        (0, format!("spinegate {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn check_reports_every_fault_with_its_line_and_ends_with_2() {
    let faulty = SOUND.replace("asid = \"999999999999\"", "asid = \"1\"\nasids = 2");
    let folder = folder_with(&faulty);
    let output = spinegate(folder.path(), &["check"]);
    assert_eq!(code(&output), 2);
    assert_eq!(
        stdout(&output),
        "\
error: gateway.asid: \"1\" is not an ASID
  --> a.toml:14:1
   |
14 | asid = \"1\"
   | ^^^^
   |
   = help: write its twelve digits in quotes

error: gateway.asids: is not a known key
  --> a.toml:15:1
   |
15 | asids = 2
   | ^^^^^
   |
   = help: did you mean `asid`?

2 problems
"
    );
}

#[test]
fn check_finds_what_the_rooms_find_and_gives_it_its_line() {
    let folder = folder_with(&SOUND.replace("audit.jsonl", "."));
    let output = spinegate(folder.path(), &["check", "--json"]);
    assert_eq!(code(&output), 2);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let audit = found["problems"]
        .as_array()
        .unwrap()
        .iter()
        .find(|problem| problem["key"] == "audit.file")
        .unwrap();
    assert_eq!(audit["line"], 21);
    assert_eq!(audit["file"], "a.toml");
}

#[test]
fn check_names_the_registry_for_what_is_wrong_in_it_and_the_configuration_where_it_is_missing() {
    let folder = folder_with(SOUND);
    let found = || -> serde_json::Value {
        let output = spinegate(folder.path(), &["check", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let of = |found: &serde_json::Value, key: &str| {
        let problems = found["problems"].as_array().unwrap();
        let problem = problems.iter().find(|problem| problem["key"] == key);
        problem.map(|problem| (problem["file"].clone(), problem["line"].clone()))
    };
    assert_eq!(of(&found(), "registry.file"), Some(("a.toml".into(), 17.into())));
    fs::write(
        folder.path().join("registry.toml"),
        "\n[[system]]\nods = \"RR8\"\ninteractions = []\n",
    )
    .unwrap();
    assert_eq!(
        of(&found(), "system[0].asid"),
        Some(("registry.toml".into(), 2.into()))
    );
}

#[test]
fn run_starts_nothing_on_a_faulty_configuration() {
    let folder = folder_with(&SOUND.replace("addresses", "address"));
    let output = spinegate(folder.path(), &["run"]);
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).starts_with("error: listen.addresses: is missing\n --> a.toml:3:1\n"),
        "{}",
        stderr(&output)
    );
    assert!(!folder.path().join("control.sock").exists() && !folder.path().join("audit.jsonl").exists());
}

#[test]
fn a_configuration_that_is_not_there_is_named_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["check"][..], &["run"], &["status"], &["detach"]] {
        let output = spinegate(folder.path(), arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        let said = stdout(&output) + &stderr(&output);
        assert!(
            said.contains("a.toml: the file can't be read: No such file"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn without_an_agent_a_command_ends_with_3_and_says_how_to_start_one() {
    let folder = folder_with(SOUND);
    for arguments in [
        &["status"][..],
        &["stats", "--json"],
        &["reload"],
        &["verdicts", "remove", "10.0.0.1"],
    ] {
        let output = spinegate(folder.path(), arguments);
        assert_eq!(code(&output), 3, "{arguments:?}");
        assert_eq!(
            stderr(&output),
            "spinegate: the agent is not running; start it with `spinegate run`\n"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = folder_with("[nonsense]\n");
    for (arguments, expected) in [(&["check"][..], 2), (&["--help"], 0)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = Command::new(env!("CARGO_BIN_EXE_spinegate"))
            .current_dir(folder.path())
            .args(["--config", "a.toml"])
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (code(&output), stderr(&output)),
            (expected, String::new()),
            "{arguments:?}"
        );
    }
}

/// Answers as an agent would, from fixed values.
#[derive(Default)]
struct Fixed {
    journal: Journal,
    errors: Errors,
}

impl Operations for Fixed {
    fn access(&self) -> Access {
        Access {
            own: nix::unistd::geteuid().as_raw(),
            ..Access::default()
        }
    }

    fn rebuffed(&self, _: Peer, _: &Rebuff) {}

    fn errors(&self) -> &Errors {
        &self.errors
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    async fn hand_over(&self, _: Peer) -> Result<Estate<'_>, Failure> {
        Err(Failure::new(FailureKind::Refused, "it stays", "nothing to do"))
    }

    async fn stand_down(&self, _: Peer, _: Estate<'_>) -> Result<String, Failure> {
        Err(Failure::new(FailureKind::Refused, "it stays", "nothing to do"))
    }

    async fn perform(&self, _peer: Peer, request: Request) -> Result<Response, Failure> {
        Ok(match request {
            Request::Status => Response::Status(Box::new(status())),
            Request::Stats => Response::Stats(Box::new(stats())),
            Request::SourcesList => Response::Sources(vec![SourceEntry {
                cidr: "10.0.0.0/8".parse().unwrap(),
                name: "ssp".to_owned(),
                kind: SourceKind::Proxy,
                services: vec!["tcp/443".parse().unwrap()],
                reply_ports: Vec::new(),
                expires: None,
                passed: Some(Tally {
                    packets: 5,
                    bytes: 300,
                }),
                origin: Origin::Operator,
            }]),
            Request::SourcesAdd(Addition {
                cidr,
                name,
                kind,
                services,
                reply_ports,
                ends_in,
            }) => Response::Done(format!(
                "{cidr} {} {} {} {reply_ports:?} {ends_in:?}",
                name.as_str(),
                kind.as_str(),
                services.len()
            )),
            Request::VerdictsList => Response::Verdicts(vec![VerdictEntry {
                source: "10.0.0.1".parse().unwrap(),
                kind: VerdictKind::Deny,
                reason: "certificate_missing".to_owned(),
                remaining_seconds: 90,
                origin: Origin::Agent,
                hits: 7,
            }]),
            Request::VerdictsAdd {
                source, kind, ttl, ..
            } => Response::Done(format!("{} {source} {ttl:?}", kind.as_str())),
            Request::Explain(question) => Response::Explanation(Explanation {
                checks: vec![Check {
                    check: "interaction".to_owned(),
                    outcome: Outcome::Fail,
                    reason: Some("interaction_not_allowed".to_owned()),
                    detail: question.described.and_then(|described| described.interaction),
                }],
                decision: Decision::Refuse,
                decided_by: Some("interaction".to_owned()),
                reason: Some("interaction_not_allowed".to_owned()),
                meaning: Some("Meant.".to_owned()),
                mend: None,
                told: Some(Told {
                    status: Some(403),
                    code: Some("ACCESS_DENIED".to_owned()),
                    diagnostics: None,
                }),
                notes: vec!["look \u{1b}[2J".to_owned()],
            }),
            Request::ExplainPackets { frames } => Response::Packets(
                frames
                    .iter()
                    .map(|frame| PacketExplanation {
                        packet: format!("{} characters", frame.len()),
                        outcome: "drop".to_owned(),
                        step: "allowlist".to_owned(),
                        reason: "source_not_allowlisted".to_owned(),
                        meaning: "It is not.".to_owned(),
                        mend: Some("List it.".to_owned()),
                        service: "tcp/443".to_owned(),
                        entry: None,
                    })
                    .collect(),
            ),
            Request::Reload { .. } => {
                let message = "a.toml:1: x: is wrong; mend it";
                return Err(Failure::new(
                    FailureKind::Usage,
                    message,
                    "the old policy is in force",
                ));
            }
            Request::SourcesRemove { cidr, .. } => {
                return Err(Failure::new(
                    FailureKind::Refused,
                    format!("{cidr} is configured"),
                    "remove it there",
                ));
            }
            Request::VerdictsRemove { source } => {
                return Err(Failure::new(
                    FailureKind::NotFound,
                    format!("{source} has no verdict"),
                    "see the list",
                ));
            }
            other => Response::Done(other.verb().to_owned()),
        })
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 7,
        program: None,
        started: "2026-01-01T00:00:00Z".to_owned(),
        config: "a.toml".into(),
        mode: "enforce".to_owned(),
        scope: "services".to_owned(),
        shadow: Vec::new(),
        interfaces: Vec::new(),
        listen: vec!["127.0.0.1:8443".parse().unwrap()],
        refusals_by_side: BTreeMap::from([("client".to_owned(), 7)]),
        upstreams: vec![UpstreamStatus {
            address: "http://127.0.0.1:8080".to_owned(),
            state: "ejected".to_owned(),
            ejected_seconds: Some(4),
            outstanding: 1,
            idle: 2,
            answered: 30,
            failures: 5,
            ejections: 1,
            last_error: Some("upstream_timeout: no answer within 30s".to_owned()),
        }],
        services: vec!["tcp/8443".parse().unwrap()],
        policy_bytes: 4096,
        confirm_until: None,
        sources: 1,
        verdicts: 2,
        systems: 3,
        registry: Vec::new(),
        connections: 4,
        openssl: "OpenSSL".to_owned(),
        log_filter: "info".to_owned(),
        policy_generation: 5,
        certificates: vec![CertificateStatus {
            what: "root".to_owned(),
            subject: "CN=Root".to_owned(),
            ends: "2030-01-01T00:00:00Z".to_owned(),
            days_left: 12,
            sha256: String::new(),
        }],
        crls: Vec::new(),
        warnings: vec!["watch \u{1b}[2J this".to_owned()],
    }
}

fn stats() -> Stats {
    let mut stats = Stats::default();
    stats.filter.drops.insert(
        "source_not_allowlisted".to_owned(),
        Tally {
            packets: 3,
            bytes: 180,
        },
    );
    stats
        .filter
        .drops
        .insert("verdict_deny".to_owned(), Tally::default());
    stats.refusals.insert("not_owner".to_owned(), 1);
    stats
}

/// An agent that has reported two drops.
fn playing() -> Fixed {
    let fixed = Fixed::default();
    for (number, reason) in ["verdict_deny", "source_not_allowlisted"].into_iter().enumerate() {
        fixed.journal.publish(DropReport {
            time: format!("2026-01-01T00:00:0{number}.123456789Z"),
            reason: reason.to_owned(),
            monitored: false,
            service: "tcp/443".to_owned(),
            interface: 2,
            interface_name: Some("eth0".to_owned()),
            length: 60,
            source: Some([192, 0, 2, 7].into()),
            packet: "tcp 192.0.2.7:40000 > 203.0.113.1:443 flags syn".to_owned(),
            frame: "AAECAw==".to_owned(),
        });
    }
    fixed.journal.set_lost(3);
    fixed
}

/// Runs `with` in a folder whose configuration names the socket of a live agent.
fn beside_an_agent(with: impl FnOnce(&Path)) {
    let folder = folder_with(SOUND);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let stop = CancellationToken::new();
    let server = Server::bind(&folder.path().join("control.sock"), None).unwrap();
    let exporter = Exporter::new(Arc::new(Counters::new()), Observed::default);
    let pages = Arc::new(Pages::new(exporter, || Readiness::of([])));
    let serving = runtime.spawn(server.serve(Arc::new(playing()), pages, stop.clone()));
    with(folder.path());
    stop.cancel();
    runtime.block_on(serving).unwrap();
}

#[test]
fn what_an_agent_refuses_ends_with_1_and_a_bad_reload_with_2() {
    beside_an_agent(|folder| {
        let table: [(&[&str], i32, &str); 3] = [
            (
                &["verdicts", "remove", "10.0.0.1"],
                1,
                "spinegate: 10.0.0.1 has no verdict; see the list\n",
            ),
            (
                &["sources", "remove", "10.0.0.0/8"],
                1,
                "spinegate: 10.0.0.0/8 is configured; remove it there\n",
            ),
            (
                &["reload"],
                2,
                "spinegate: a.toml:1: x: is wrong; mend it; the old policy is in force\n",
            ),
        ];
        for (arguments, exit, said) in table {
            let output = spinegate(folder, arguments);
            assert_eq!(
                (code(&output), stderr(&output)),
                (exit, said.to_owned()),
                "{arguments:?}"
            );
        }
    });
}

#[test]
fn orders_reach_the_agent_with_their_values() {
    beside_an_agent(|folder| {
        let table: [(&[&str], &str); 8] = [
            (
                &["sources", "add", "10.0.0.0/8", "--name", "n"],
                "10.0.0.0/8 n system 0 [] None\n",
            ),
            (
                &[
                    "sources",
                    "add",
                    "2001:db8::/64",
                    "--name",
                    "n",
                    "--kind",
                    "proxy",
                    "--service",
                    "tcp/443",
                    "--reply-port",
                    "53",
                    "--for",
                    "8h",
                ],
                "2001:db8::/64 n proxy 1 [53] Some(28800)\n",
            ),
            (
                &["verdicts", "add", "::ffff:10.0.0.1", "--ttl", "10m"],
                "deny 10.0.0.1 Some(600)\n",
            ),
            (&["verdicts", "add", "10.0.0.1"], "deny 10.0.0.1 None\n"),
            (
                &["verdicts", "add", "10.0.0.0/8", "--trust"],
                "trust 10.0.0.0/8 None\n",
            ),
            (&["verdicts", "clear"], "verdicts clear\n"),
            (&["reload", "--confirm"], "reload confirm\n"),
            (&["attach"], "attach\n"),
        ];
        for (arguments, said) in table {
            let output = spinegate(folder, arguments);
            assert_eq!(
                (code(&output), stdout(&output)),
                (0, said.to_owned()),
                "{arguments:?}"
            );
        }
    });
}

#[test]
fn tables_are_aligned_and_hold_no_control_characters() {
    beside_an_agent(|folder| {
        let said = |arguments: &[&str]| stdout(&spinegate(folder, arguments));
        assert_eq!(
            said(&["sources", "list"]),
            "SOURCE      NAME  KIND   SERVICES  UNTIL  FROM      PACKETS  BYTES\n\
             10.0.0.0/8  ssp   proxy  tcp/443   -      operator  5        300\n"
        );
        assert_eq!(
            said(&["verdicts", "list"]),
            "SOURCE    VERDICT  REASON               REMAINING  FROM   HITS\n\
             10.0.0.1  deny     certificate_missing  1m 30s     agent  7\n"
        );
        let status = said(&["status"]);
        assert!(
            status.contains("process        7, since 2026-01-01T00:00:00Z\n"),
            "{status}"
        );
        assert!(status.contains("warning: watch \\u{1b}[2J this\n"), "{status}");
        let stats = said(&["stats"]);
        assert!(
            stats.contains("drop    source_not_allowlisted  3        180\n"),
            "{stats}"
        );
        assert!(!stats.contains("verdict_deny"), "{stats}");
        let explained = said(&["explain", "--asid", "1", "--interaction", "urn:x"]);
        assert!(
            explained.ends_with(
                "\ninteraction  FAIL     interaction_not_allowed  urn:x\n\n\
                 refuse: interaction_not_allowed, by the check interaction\n  \
                 meaning             Meant.\n  the client is told  403 ACCESS_DENIED\nnote: look \\u{1b}[2J\n"
            ),
            "{explained}"
        );
    });
}

#[test]
fn json_has_the_documented_keys() {
    beside_an_agent(|folder| {
        let json = |arguments: &[&str]| -> serde_json::Value {
            let output = spinegate(folder, arguments);
            assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
            serde_json::from_slice(&output.stdout).unwrap()
        };
        let status = json(&["status", "--json"]);
        let keys: Vec<&str> = status.as_object().unwrap().keys().map(String::as_str).collect();
        let mut documented = vec![
            "version",
            "pid",
            "started",
            "config",
            "mode",
            "scope",
            "shadow",
            "interfaces",
            "listen",
            "log_filter",
            "upstreams",
            "refusals_by_side",
            "registry",
            "services",
            "sources",
            "verdicts",
            "systems",
            "connections",
            "openssl",
            "policy_bytes",
            "policy_generation",
            "certificates",
            "crls",
            "warnings",
        ];
        documented.sort_unstable();
        assert_eq!(keys, documented);
        assert_eq!(status["services"], serde_json::json!(["tcp/8443"]));

        assert_eq!(
            json(&["stats", "--json"]),
            serde_json::json!({
                "filter": {
                    "drops": {
                        "source_not_allowlisted": { "packets": 3, "bytes": 180 },
                        "verdict_deny": { "packets": 0, "bytes": 0 },
                    },
                    "would_drops": {}, "passes": {}, "services": {}, "lost_events": 0,
                },
                "handshakes": { "accepted": 0, "refused": 0 },
                "actions": {},
                "requests": { "allowed": 0, "refused": 0, "shadowed": 0 },
                "refusals": { "not_owner": 1 },
                "verdicts_issued": 0,
            })
        );
        assert_eq!(
            json(&["sources", "list", "--json"]),
            serde_json::json!([{
                "cidr": "10.0.0.0/8", "name": "ssp", "kind": "proxy", "services": ["tcp/443"],
                "passed": { "packets": 5, "bytes": 300 }, "origin": "operator",
            }])
        );
        assert_eq!(
            json(&["verdicts", "list", "--json"]),
            serde_json::json!([{
                "source": "10.0.0.1", "kind": "deny", "reason": "certificate_missing", "remaining_seconds": 90,
                "origin": "agent", "hits": 7,
            }])
        );
        let explained = spinegate(
            folder,
            &["explain", "--asid", "1", "--interaction", "urn:x", "--json"],
        );
        assert_eq!(code(&explained), 1, "{}", stderr(&explained));
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&explained.stdout).unwrap(),
            serde_json::json!({
                "checks": [{
                    "check": "interaction", "outcome": "fail", "reason": "interaction_not_allowed", "detail": "urn:x",
                }],
                "decision": "refuse",
                "decided_by": "interaction",
                "reason": "interaction_not_allowed",
                "meaning": "Meant.",
                "told": { "status": 403, "code": "ACCESS_DENIED" },
                "notes": ["look \u{1b}[2J"],
            })
        );
    });
}

#[test]
fn events_are_printed_from_the_oldest_on_and_those_that_were_lost_are_told() {
    beside_an_agent(|folder| {
        let output = spinegate(folder, &["events"]);
        let said = stdout(&output);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert_eq!(
            lines[1],
            "2026-01-01T00:00:00.123Z  drop        verdict_deny            tcp/443    eth0       \
             tcp 192.0.2.7:40000 > 203.0.113.1:443 flags syn"
        );
        assert!(stderr(&output).contains("3 drops in all were only counted"));

        let output = spinegate(folder, &["events", "--last", "1", "--json"]);
        let said = stdout(&output);
        let lines: Vec<serde_json::Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["reason"], "source_not_allowlisted");
        assert_eq!(lines[1], serde_json::json!({ "lost_events": 3 }));
        let none = stdout(&spinegate(
            folder,
            &["events", "--json", "--reason", "packet_truncated"],
        ));
        assert_eq!(none, "{\"lost_events\":3}\n");
    });
}

#[test]
fn events_become_a_capture_that_explain_reads() {
    beside_an_agent(|folder| {
        let output = spinegate(folder, &["events", "--pcap", "a.pcapng"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(stdout(&output).lines().count(), 3);
        let streamed = spinegate(folder, &["events", "--pcap", "-"]);
        assert_eq!(streamed.stdout, fs::read(folder.join("a.pcapng")).unwrap());
        // Four bytes of sixty: not even the Ethernet header, so nothing is asked about it.
        let said = stdout(&spinegate(folder, &["explain", "--pcap", "a.pcapng"]));
        assert!(
            said.starts_with("1: not judged\n   note: 4 of 60 bytes were captured, too few"),
            "{said}"
        );
    });
}

#[test]
fn packets_are_explained_one_by_one() {
    beside_an_agent(|folder| {
        let arguments = [
            "explain",
            "--packet",
            "tcp 192.0.2.7 > 443",
            "--packet",
            "udp ::1 > 53",
        ];
        let said = stdout(&spinegate(folder, &arguments));
        assert!(
            said.starts_with(
                "1: 72 characters\n   drop, decided at allowlist: source_not_allowlisted\n   It is not.\n   \
                 mend: List it.\n   service: tcp/443\n\n2: 84 characters\n"
            ),
            "{said}"
        );
        let output = spinegate(folder, &[&arguments[..], &["--json"]].concat());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&json[1]["number"], &json[1]["outcome"]),
            (&serde_json::json!(2), &serde_json::json!("drop"))
        );
    });
}

#[test]
fn a_long_capture_is_asked_about_in_several_calls_and_cut_at_the_limit() {
    beside_an_agent(|folder| {
        let mut file = Vec::new();
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
            file.extend(word.to_le_bytes());
        }
        for _ in 0..1001 {
            for word in [0_u32, 0, 1514, 1514] {
                file.extend(word.to_le_bytes());
            }
            file.extend([0; 1514]);
        }
        fs::write(folder.join("a.pcap"), file).unwrap();
        let output = spinegate(folder, &["explain", "--pcap", "a.pcap", "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let packets = json.as_array().unwrap();
        assert_eq!(packets.len(), 1000);
        assert!(packets.iter().all(|packet| packet["packet"] == "2020 characters"));
        assert!(
            stderr(&output).contains("more than 1000 packets"),
            "{}",
            stderr(&output)
        );
    });
}

#[test]
fn top_measures_once_for_a_program() {
    beside_an_agent(|folder| {
        let output = spinegate(folder, &["top", "--once", "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            json["seconds"].as_f64().is_some_and(|seconds| seconds >= 1.0),
            "{json}"
        );
        assert_eq!(json["filter"], serde_json::json!([]));
        let said = stdout(&spinegate(folder, &["top", "--once"]));
        assert!(said.starts_with("FILTER  REASON  PACKETS/S  BYTES/S\n"), "{said}");
        assert!(!said.contains('\u{1b}'), "{said}");
    });
}
