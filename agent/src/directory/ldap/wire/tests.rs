use proptest::prelude::*;
use tokio::io::duplex;

use super::*;

const BOUNDS: Bounds = Bounds {
    message_bytes: 4096,
    all_bytes: 16_384,
    entries: 5,
    page: 2,
};

const SEARCH: Search<'static> = Search {
    base: "o=nhs",
    class: "nhsAs",
    since: None,
    attributes: &["uniqueIdentifier"],
};

fn message(id: u32, operation: &[u8], controls: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&integer(INTEGER, id), operation, controls].concat())
}

fn result(tag: u8, code: u32) -> Vec<u8> {
    let fields = [
        integer(ENUMERATED, code),
        tlv(OCTET_STRING, b""),
        tlv(OCTET_STRING, b"because"),
    ];
    tlv(tag, &fields.concat())
}

fn found(asid: &str) -> Vec<u8> {
    let values = tlv(0x31, &tlv(OCTET_STRING, asid.as_bytes()));
    let attribute = tlv(
        SEQUENCE,
        &[tlv(OCTET_STRING, b"UNIQUEidentifier"), values].concat(),
    );
    tlv(
        0x64,
        &[tlv(OCTET_STRING, b"cn=x"), tlv(SEQUENCE, &attribute)].concat(),
    )
}

/// What a search comes to when the server sends this, whatever it is asked.
async fn search(answers: Vec<Vec<u8>>) -> Result<Vec<String>, WireError> {
    let (client, mut server) = duplex(1 << 16);
    server.write_all(&answers.concat()).await.unwrap();
    let mut asked = vec![0; 1 << 14];
    let mut connection = Connection::new(client, BOUNDS);
    let mut asids = Vec::new();
    let searching = connection.search(SEARCH, |entry| {
        asids.extend(entry.values("uniqueidentifier").to_vec())
    });
    tokio::select! {
        ended = searching => ended?,
        // The requests are read, and after all of the answers comes the end.
        () = async { while server.read(&mut asked).await.is_ok_and(|read| read > 0) {} } => {}
    }
    Ok(asids)
}

#[tokio::test]
async fn pages_are_followed_to_the_last_and_names_have_no_case() {
    let done = |id, cookie: &[u8]| message(id, &result(0x65, 0), &paged(0, cookie));
    let answers = vec![
        message(1, &found("1"), &[]),
        message(1, &found("2"), &[]),
        done(1, b"more"),
        message(2, &found("3"), &[]),
        done(2, b""),
    ];
    assert_eq!(search(answers).await.unwrap(), ["1", "2", "3"]);
}

#[tokio::test]
async fn what_a_server_should_not_do_ends_the_search() {
    let end = |id| message(id, &result(0x65, 0), &paged(0, b""));
    let too_long = [SEQUENCE, 0x84, 0x40, 0, 0, 0].to_vec();
    let of_page = vec![message(1, &found("1"), &[]); 3];
    let overrun = |answers: Vec<Vec<u8>>| answers;
    for (answers, word) in [
        (overrun(of_page), "more entries than a page"),
        (vec![message(7, &found("1"), &[])], "not asked"),
        (vec![too_long], "1073741824 bytes"),
        (vec![[SEQUENCE, 0x80].to_vec()], "without a length"),
        (vec![[0x16, 3].to_vec()], "no sequence"),
        (vec![message(1, &tlv(0x64, b"junk"), &[])], "can't be read"),
        (vec![message(1, &result(0x61, 0), &[])], "another message"),
        (vec![message(1, &result(0x65, 0), &[])], "without its cookie"),
        (vec![message(1, &result(0x65, 50), &paged(0, b""))], "because"),
        (
            (1..9)
                .flat_map(|id| {
                    [
                        message(id, &found("1"), &[]),
                        message(id, &result(0x65, 0), &paged(0, b"m")),
                    ]
                })
                .collect(),
            "more than 5 entries",
        ),
        (
            (1..999)
                .map(|id| message(id, &result(0x65, 0), &paged(0, b"m")))
                .collect(),
            "more than 16384 bytes",
        ),
    ] {
        let error = search(answers).await.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(search(vec![end(1)]).await.unwrap().is_empty());
}

#[test]
fn what_is_sent_is_read_as_it_is_meant() {
    let since = Search {
        since: Some("20260101000000Z"),
        ..SEARCH
    };
    for (search, filter) in [(SEARCH, "EqualityMatch"), (since, "GreaterOrEqual")] {
        let sent = message(300, &search.request(), &paged(500, b"cookie"));
        let (rest, message) = LdapMessage::from_ber(&sent).unwrap();
        assert!(rest.is_empty());
        assert_eq!(message.message_id.0, 300);
        let controls = message.controls.unwrap();
        assert_eq!(next_cookie(&controls).unwrap(), b"cookie");
        assert!(controls[0].criticality);
        let ProtocolOp::SearchRequest(request) = message.protocol_op else {
            panic!("{:?}", message.protocol_op);
        };
        assert_eq!((request.base_object.0.as_ref(), request.scope.0), ("o=nhs", 2));
        assert!(
            format!("{:?}", request.filter).contains(filter),
            "{:?}",
            request.filter
        );
    }
    assert_eq!(integer(INTEGER, 0), [2, 1, 0]);
    assert_eq!(integer(INTEGER, 128), [2, 2, 0, 128]);
    assert_eq!(tlv(4, &[0; 200])[..3], [4, 0x81, 200]);
    assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), id in 0..4u32) {
        let _ = parse(&bytes, id);
        let _ = parse(&message(id, &bytes, &[]), id);
        let _ = parse(&message(id, &tlv(0x64, &bytes), &bytes), id);
        let _ = parse(&message(id, &result(0x65, 0), &tlv(CONTROLS, &bytes)), id).map(|message| {
            next_cookie(message.controls.as_deref().unwrap_or_default()).is_ok()
        });
    }
}
