//! What no sound TLS client sends: each probe of `tests/probes` ends as the RFCs have it, with one reason, and leaves a gateway
//! that serves the next client.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Result, ensure};
use spinegate_tests::{
    expect::serves,
    lab::{self, Lab},
    probes::{
        self,
        End::{self, Alert, Closed, Served},
        Probe,
    },
    suite::Suite,
};
use toml::Value;

// RFC 5246 section 7.2.
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const UNKNOWN_CA: u8 = 48;
const DECODE_ERROR: u8 = 50;
const DECRYPT_ERROR: u8 = 51;
const PROTOCOL_VERSION: u8 = 70;
const NO_RENEGOTIATION: u8 = 100;

const MALFORMED: Option<&str> = Some("handshake_malformed");
/// The handshake was accepted; what came after it ended the connection.
const INVALID: Option<&str> = Some("record_invalid");
const ACCEPTED: Option<&str> = None;

fn main() -> ExitCode {
    Suite {
        name: "probes",
        edit: lab::open_limits,
        tests: spinegate_tests::tests![
            a_share_that_gives_a_known_secret_or_is_none_is_refused,
            a_record_or_hello_that_contradicts_itself_is_refused,
            a_wrong_mac_and_a_wrong_padding_get_one_and_the_same_answer,
            a_handshake_in_pieces_is_accepted_however_small_they_are,
            a_message_too_many_too_few_or_too_early_is_refused,
            a_certificate_verify_that_proves_nothing_is_refused,
            a_list_of_certificates_is_judged_by_the_leaf_and_its_pinned_issuer,
            what_is_not_tls_1_2_is_refused,
            the_features_that_the_configuration_demands_are_demanded,
        ],
    }
    .run()
}

fn a_share_that_gives_a_known_secret_or_is_none_is_refused(lab: &mut Lab) -> Result<()> {
    ended(
        lab,
        "shares",
        &[
            (
                Alert(ILLEGAL_PARAMETER),
                MALFORMED,
                &[
                    "share_0",
                    "share_1",
                    "share_p_minus_1",
                    "share_p",
                    "share_p_plus_1",
                    "share_longer_than_the_prime",
                ],
            ),
            (
                Alert(DECODE_ERROR),
                MALFORMED,
                &[
                    "share_of_no_bytes",
                    "share_shorter_than_its_length",
                    "share_longer_than_its_length",
                    "share_without_a_length",
                ],
            ),
        ],
    )?;
    Ok(())
}

fn a_record_or_hello_that_contradicts_itself_is_refused(lab: &mut Lab) -> Result<()> {
    ended(
        lab,
        "records",
        &[
            (
                Closed,
                Some("peer_closed"),
                &[
                    "nothing_at_all",
                    "half_a_record_header",
                    "half_a_message_header",
                    "half_a_hello",
                    "half_a_hello_in_a_whole_record",
                    "record_without_content",
                ],
            ),
            (
                Closed,
                Some("handshake_abandoned"),
                &["half_a_certificate", "certificate_alone"],
            ),
            (
                Alert(DECODE_ERROR),
                MALFORMED,
                &[
                    "mutated_certificate_list",
                    "hello_with_a_byte_too_much",
                    "hello_with_a_byte_too_little",
                    "session_id_too_long",
                    "suites_of_an_odd_length",
                    "suites_beyond_the_end",
                    "no_compression_method",
                    "deflate_alone",
                    "extension_beyond_the_end",
                    "signature_algorithms_of_an_odd_length",
                ],
            ),
            (
                Alert(UNEXPECTED_MESSAGE),
                MALFORMED,
                &["record_of_an_unknown_type", "record_of_application_data"],
            ),
            (Closed, MALFORMED, &["record_of_another_protocol"]),
            (Alert(RECORD_OVERFLOW), MALFORMED, &["record_longer_than_allowed"]),
            (
                Alert(ILLEGAL_PARAMETER),
                MALFORMED,
                &[
                    "message_longer_than_allowed",
                    "extension_twice",
                    "hello_longer_than_is_read",
                ],
            ),
            (Alert(HANDSHAKE_FAILURE), Some("no_common_cipher"), &["no_suites"]),
            (
                Alert(HANDSHAKE_FAILURE),
                MALFORMED,
                &["renegotiation_info_of_an_earlier_handshake"],
            ),
        ],
    )?;
    Ok(())
}

fn a_wrong_mac_and_a_wrong_padding_get_one_and_the_same_answer(lab: &mut Lab) -> Result<()> {
    let probes = ended(
        lab,
        "macs",
        &[
            (Served, ACCEPTED, &["etm_more_padding", "mte_more_padding"]),
            (
                Alert(BAD_RECORD_MAC),
                MALFORMED,
                &[
                    "etm_finished_mac_first_byte",
                    "etm_finished_mac_last_byte",
                    "etm_finished_padding_first_byte",
                    "etm_finished_padding_length",
                    "etm_finished_padding_beyond_the_record",
                    "etm_finished_padding_alone",
                    "etm_unaligned",
                    "mte_finished_mac_first_byte",
                    "mte_finished_mac_last_byte",
                    "mte_finished_padding_first_byte",
                    "mte_finished_padding_length",
                    "mte_finished_padding_beyond_the_record",
                    "mte_finished_padding_alone",
                    "mte_unaligned",
                    "mte_too_short",
                ],
            ),
            (
                Alert(BAD_RECORD_MAC),
                INVALID,
                &[
                    "etm_data_mac_first_byte",
                    "etm_data_mac_last_byte",
                    "etm_data_padding_first_byte",
                    "etm_data_padding_length",
                    "etm_data_padding_beyond_the_record",
                    "etm_data_padding_alone",
                    "mte_data_mac_first_byte",
                    "mte_data_mac_last_byte",
                    "mte_data_padding_first_byte",
                    "mte_data_padding_length",
                    "mte_data_padding_beyond_the_record",
                    "mte_data_padding_alone",
                ],
            ),
            (Alert(DECODE_ERROR), MALFORMED, &["etm_too_short"]),
        ],
    )?;
    // Neither MAC nor padding may be told from the answer, in clear or by its length.
    for part in ["etm_finished", "mte_finished", "etm_data", "mte_data"] {
        let answers: BTreeMap<&str, &str> = probes
            .iter()
            .filter(|probe| probe.name.starts_with(part))
            .map(|probe| (probe.name.as_str(), probe.answer.as_str()))
            .collect();
        ensure!(answers.len() == 6, "{part}: {answers:?}");
        let clear = part.ends_with("finished");
        let same = |answer: &&str| {
            if clear {
                *answer == "15030300020214"
            } else {
                answer.len() == sealed(part)
            }
        };
        ensure!(
            answers.values().all(same),
            "{part} tells more than bad_record_mac: {answers:?}"
        );
    }
    Ok(())
}

fn a_handshake_in_pieces_is_accepted_however_small_they_are(lab: &mut Lab) -> Result<()> {
    ended(
        lab,
        "fragments",
        &[
            (
                Served,
                ACCEPTED,
                &[
                    "hello_in_records_of_one_byte",
                    "hello_in_records_of_seven_bytes",
                    "hello_in_segments_of_one_byte",
                    "certificate_in_records_of_a_hundred_bytes",
                    "three_messages_in_one_record",
                    "data_in_records_of_one_byte",
                    "hello_of_sixty_thousand_bytes",
                    "empty_record_within_the_hello",
                ],
            ),
            (
                Alert(UNEXPECTED_MESSAGE),
                MALFORMED,
                &[
                    "empty_records_without_end",
                    "data_within_the_hello",
                    "alert_in_pieces",
                ],
            ),
        ],
    )?;
    Ok(())
}

fn a_message_too_many_too_few_or_too_early_is_refused(lab: &mut Lab) -> Result<()> {
    ended(
        lab,
        "order",
        &[
            (
                Alert(UNEXPECTED_MESSAGE),
                MALFORMED,
                &[
                    "key_exchange_before_certificate",
                    "verify_before_key_exchange",
                    "no_certificate_message",
                    "no_key_exchange",
                    "no_verify",
                    "no_change",
                    "no_finished",
                    "certificate_twice",
                    "key_exchange_twice",
                    "verify_twice",
                    "change_twice",
                    "second_hello_before_the_answer",
                    "second_hello_after_the_answer",
                    "data_within_the_handshake",
                    "change_before_the_hello",
                    "change_before_the_certificate",
                    "change_before_the_key_exchange",
                    "change_before_the_verify",
                    "server_hello_from_the_client",
                    "hello_request_from_the_client",
                    "next_protocol_that_nobody_offered",
                    "key_update_of_tls_1_3",
                    "message_of_an_unknown_type",
                ],
            ),
            (
                Alert(UNEXPECTED_MESSAGE),
                INVALID,
                &["change_after_the_handshake", "finished_twice"],
            ),
            (Alert(DECRYPT_ERROR), MALFORMED, &["finished_with_wrong_content"]),
            (Alert(DECODE_ERROR), MALFORMED, &["finished_too_short"]),
            (
                Alert(NO_RENEGOTIATION),
                ACCEPTED,
                &["renegotiation", "renegotiation_after_a_request"],
            ),
        ],
    )?;
    Ok(())
}

fn a_certificate_verify_that_proves_nothing_is_refused(lab: &mut Lab) -> Result<()> {
    ended(
        lab,
        "verify",
        &[
            (
                Served,
                ACCEPTED,
                &["verify_by_the_right_key", "verify_by_pss", "verify_by_sha512"],
            ),
            (
                Alert(DECRYPT_ERROR),
                Some("key_unproven"),
                &[
                    "verify_by_another_key",
                    "verify_of_an_earlier_transcript",
                    "verify_with_a_bit_flipped",
                    "verify_by_another_digest_than_it_says",
                    "verify_without_a_signature",
                ],
            ),
            (Alert(HANDSHAKE_FAILURE), MALFORMED, &["verify_by_sha1"]),
            (
                Alert(ILLEGAL_PARAMETER),
                MALFORMED,
                &[
                    "verify_by_ecdsa_with_an_rsa_key",
                    "verify_by_an_unknown_algorithm",
                ],
            ),
            (
                Alert(DECODE_ERROR),
                MALFORMED,
                &["verify_without_content", "verify_beyond_its_end"],
            ),
        ],
    )?;
    Ok(())
}

fn a_list_of_certificates_is_judged_by_the_leaf_and_its_pinned_issuer(lab: &mut Lab) -> Result<()> {
    ended(
        lab,
        "chains",
        &[
            (
                Served,
                ACCEPTED,
                &[
                    "leaf_and_issuer",
                    "leaf_alone",
                    "leaf_twice",
                    "a_stranger_behind",
                    "a_stranger_between",
                    "a_strangers_issuer_with_our_leaf",
                    "a_hundred_certificates",
                ],
            ),
            (
                Alert(UNKNOWN_CA),
                Some("issuer_not_pinned"),
                &["issuer_before_leaf", "issuer_alone"],
            ),
            (
                Alert(UNKNOWN_CA),
                Some("chain_unknown_ca"),
                &["a_strangers_leaf_with_our_issuer"],
            ),
            (
                Alert(HANDSHAKE_FAILURE),
                Some("certificate_missing"),
                &["no_certificate"],
            ),
            (Closed, MALFORMED, &["more_certificates_than_are_read"]),
            (
                Alert(DECODE_ERROR),
                MALFORMED,
                &[
                    "certificate_of_no_bytes",
                    "certificate_of_garbage",
                    "certificate_cut_short",
                    "certificate_with_a_tail",
                    "list_beyond_the_message",
                    "certificate_beyond_the_list",
                    "list_with_a_tail",
                    "list_without_a_length",
                ],
            ),
        ],
    )?;
    Ok(())
}

fn what_is_not_tls_1_2_is_refused(lab: &mut Lab) -> Result<()> {
    ended(
        lab,
        "foreign",
        &[
            (
                Closed,
                MALFORMED,
                &["http", "http_proxy", "http_2", "proxy_protocol", "ssh", "zeros"],
            ),
            (
                Alert(PROTOCOL_VERSION),
                Some("tls_version"),
                &["sslv2_hello", "sslv2_hello_of_ssl_2"],
            ),
            (
                Alert(UNEXPECTED_MESSAGE),
                MALFORMED,
                &[
                    "heartbeat_before_the_hello",
                    "heartbeat_within_the_handshake",
                    "fatal_alert_first",
                    "close_notify_first",
                    "warnings_without_end",
                    "alert_of_an_unknown_level",
                ],
            ),
            (
                Alert(UNEXPECTED_MESSAGE),
                INVALID,
                &["heartbeat_after_the_handshake"],
            ),
            (
                Closed,
                Some("peer_alert"),
                &["fatal_alert_after_the_gateways_part"],
            ),
        ],
    )?;
    Ok(())
}

/// The length in hexadecimal of a protected alert: header, IV, and the alert with its MAC and padding, in whole blocks.
fn sealed(part: &str) -> usize {
    let (iv, mac, block) = (16, 32, 16_usize);
    let record = if part.starts_with("etm") {
        iv + 2_usize.next_multiple_of(block) + mac
    } else {
        iv + (2 + mac + 1_usize).next_multiple_of(block)
    };
    2 * (5 + record)
}

/// Sends a group of probes; each must end as the table says, and the gateway must serve the next client.
fn the_features_that_the_configuration_demands_are_demanded(lab: &mut Lab) -> Result<()> {
    let demand = |demanded: bool| -> Result<()> {
        lab.reconfigure(|table| {
            if let Some(tls) = table.get_mut("tls").and_then(Value::as_table_mut) {
                tls.insert("require_ems".into(), demanded.into());
                tls.insert("require_etm".into(), demanded.into());
            }
        })
    };
    demand(true)?;
    ended(
        lab,
        "features",
        &[
            (Served, ACCEPTED, &["with_ems_and_etm"]),
            (
                Alert(HANDSHAKE_FAILURE),
                Some("ems_missing"),
                &["without_ems", "without_either"],
            ),
            (Alert(HANDSHAKE_FAILURE), Some("etm_missing"), &["without_etm"]),
        ],
    )?;
    demand(false)
}

fn ended(lab: &Lab, group: &str, table: &[(End, Option<&str>, &[&str])]) -> Result<Vec<Probe>> {
    let probes = probes::run(lab, group)?;
    let mut wanted: BTreeMap<&str, (End, Option<&str>)> = BTreeMap::new();
    for (end, reason, names) in table {
        wanted.extend(names.iter().map(|name| (*name, (*end, *reason))));
    }
    let mut faults = Vec::new();
    for probe in &probes {
        let found = (probe.end, probe.reason.as_deref());
        match wanted.remove(probe.name.as_str()) {
            Some(wanted) if wanted == found => {}
            Some((end, reason)) => faults.push(format!(
                "{}: {} and {:?} instead of {end} and {reason:?}",
                probe.name, probe.end, probe.reason
            )),
            None => faults.push(format!("{} is in no table", probe.name)),
        }
    }
    faults.extend(wanted.keys().map(|name| format!("{name} was not sent")));
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    serves(lab)?;
    Ok(probes)
}
