//! The locator over loopback: each interaction, and what it leaves in the database.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use serde_json::json;

use super::{Condition, Naming, NewPointer, Status, Store};
use fixture::{
    Answered, COLLECTION, Lab, OTHER_PATIENT, PATIENT, PUBLIC, identifier, pointer, replacing, withdrawal,
};

pub(super) mod fixture;

#[tokio::test]
async fn a_created_pointer_is_read_back_with_what_the_server_sets() {
    let lab = Lab::start().await;
    let mut sent = pointer(PATIENT, "RR8", "urn:uuid:a");
    sent["id"] = json!("chosen-by-the-client");
    sent["meta"]["versionId"] = json!("9");
    let created = lab.post(&sent).await;
    assert_eq!((created.status, created.code()), (201, "RESOURCE_CREATED"));
    assert_eq!(
        created.diagnostics(),
        "Successfully created resource DocumentReference"
    );
    assert_eq!(created.content_type, "application/fhir+json; charset=utf-8");
    let id = created.id();
    assert_eq!(created.location, Some(format!("{PUBLIC}{COLLECTION}/{id}")));
    let (uuid, suffix) = id.split_at(36);
    assert!(
        uuid::Uuid::parse_str(uuid).is_ok() && suffix.len() == 21 && suffix.starts_with('-'),
        "{id}"
    );

    let read = lab.get(&format!("{COLLECTION}/{id}")).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.body["id"], json!(id));
    assert_eq!(read.body["meta"]["versionId"], "1");
    assert_eq!(read.body["status"], "current");
    for set in [&read.body["meta"]["lastUpdated"], &read.body["indexed"]] {
        assert!(humantime::parse_rfc3339(set.as_str().unwrap()).is_ok());
    }
    assert_eq!(read.body["custodian"], sent["custodian"]);
    assert_eq!(read.body["meta"]["profile"], sent["meta"]["profile"]);
    let stored = lab.stored(&id);
    assert_eq!(
        (stored.version, stored.status, stored.deleted),
        (1, Status::Current, false)
    );
    assert_eq!(
        (stored.custodian.as_str(), stored.nhs_number.as_str()),
        ("RR8", PATIENT)
    );
    assert_eq!(stored.master, Some(identifier("urn:uuid:a")));
    assert_eq!(lab.changes(&id), [("create".into(), 1, Status::Current)]);
    // What the server sets stands in the columns alone.
    for path in ["id", "status", "indexed", "meta.versionId", "meta.lastUpdated"] {
        let query = format!("SELECT count(*) FROM pointer WHERE json_extract(body, '$.{path}') IS NOT NULL");
        assert_eq!(lab.sql(&query), 0, "{path}");
    }
}

#[tokio::test]
async fn a_master_identifier_is_unique_for_its_patient_even_after_a_delete() {
    let lab = Lab::start().await;
    let first = lab.post(&pointer(PATIENT, "RR8", "urn:uuid:a")).await.id();
    let again = lab.post(&pointer(PATIENT, "RGD", "urn:uuid:a")).await;
    assert_eq!((again.status, again.code()), (400, "DUPLICATE_REJECTED"));
    assert_eq!(
        again.diagnostics(),
        "Duplicate masterIdentifier value: urn:uuid:a system: urn:ietf:rfc:3986"
    );
    assert_eq!(
        lab.post(&pointer(OTHER_PATIENT, "RR8", "urn:uuid:a"))
            .await
            .status,
        201
    );
    assert_eq!(lab.delete(&first).await.status, 200);
    assert_eq!(
        lab.post(&pointer(PATIENT, "RR8", "urn:uuid:a")).await.code(),
        "DUPLICATE_REJECTED"
    );
    let mut without = pointer(PATIENT, "RR8", "");
    without.as_object_mut().unwrap().remove("masterIdentifier");
    assert_eq!(lab.post(&without).await.status, 201);
    assert_eq!(lab.post(&without).await.status, 201);
}

#[tokio::test]
async fn a_search_finds_the_current_pointers_of_a_patient() {
    let lab = Lab::start().await;
    let a = lab.post(&pointer(PATIENT, "RR8", "urn:uuid:a")).await.id();
    let b = lab.post(&pointer(PATIENT, "RGD", "urn:uuid:b")).await.id();
    let gone = lab.post(&pointer(PATIENT, "RR8", "urn:uuid:c")).await.id();
    let withdrawn = lab.post(&pointer(PATIENT, "RR8", "urn:uuid:d")).await.id();
    lab.post(&pointer(OTHER_PATIENT, "RR8", "urn:uuid:a")).await;
    lab.delete(&gone).await;
    lab.patch(&withdrawn, &withdrawal()).await;

    let subject =
        format!("subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F{PATIENT}");
    let custodian = "custodian=https://directory.spineservices.nhs.uk/STU3/Organization/RGD";
    for (query, expected) in [
        (subject.clone(), vec![&a, &b]),
        (format!("{subject}&{custodian}"), vec![&b]),
        (
            format!("{subject}&type.coding=http%3A%2F%2Fsnomed.info%2Fsct%7C736253002"),
            vec![&a, &b],
        ),
        (format!("{subject}&type=736253002"), vec![&a, &b]),
        (
            format!("{subject}&type.coding=http%3A%2F%2Fsnomed.info%2Fsct%7C1"),
            vec![],
        ),
        (format!("{subject}&type.coding=urn%3Ax%7C736253002"), vec![]),
        (format!("_id={a}"), vec![&a]),
        (format!("_id={gone}"), vec![]),
        (format!("_id={withdrawn}&_format=application/fhir+json"), vec![]),
    ] {
        let found = lab.get(&format!("{COLLECTION}?{query}")).await;
        assert_eq!(
            (found.status, &found.body["type"]),
            (200, &json!("searchset")),
            "{query}"
        );
        assert_eq!(found.body["total"], expected.len(), "{query}");
        assert_eq!(
            found.body["link"][0]["url"],
            format!("{PUBLIC}{COLLECTION}?{query}")
        );
        let entries = found
            .body
            .get("entry")
            .map_or(&[][..], |entries| entries.as_array().unwrap());
        let ids: Vec<_> = entries
            .iter()
            .map(|entry| entry["resource"]["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, expected, "{query}");
    }
    let count = lab.get(&format!("{COLLECTION}?{subject}&_summary=count")).await;
    assert_eq!((&count.body["total"], count.body.get("entry")), (&json!(2), None));
}

#[tokio::test]
async fn a_supersede_changes_both_pointers_or_neither() {
    let lab = Lab::start().await;
    let reference = |id: &str| json!({ "reference": format!("{PUBLIC}{COLLECTION}/{id}") });
    let by_identifier =
        |value: &str| json!({ "identifier": { "system": "urn:ietf:rfc:3986", "value": value } });
    let old = lab.post(&pointer(PATIENT, "RR8", "urn:uuid:1")).await.id();

    let second = lab.post(&replacing("urn:uuid:2", reference(&old))).await;
    assert_eq!((second.status, second.code()), (201, "RESOURCE_CREATED"));
    assert_eq!(
        (lab.stored(&old).version, lab.stored(&old).status),
        (2, Status::Superseded)
    );
    assert_eq!(
        lab.changes(&old),
        [
            ("create".into(), 1, Status::Current),
            ("supersede".into(), 2, Status::Superseded)
        ]
    );
    assert_eq!(
        lab.get(&format!("{COLLECTION}/{old}")).await.code(),
        "BAD_REQUEST"
    );

    let third = lab
        .post(&replacing("urn:uuid:3", by_identifier("urn:uuid:2")))
        .await
        .id();
    assert_eq!(lab.stored(&second.id()).status, Status::Superseded);
    let mut both = reference(&third);
    both["identifier"] = json!({ "system": "urn:ietf:rfc:3986", "value": "urn:uuid:1" });
    let contradiction = lab.post(&replacing("urn:uuid:4", both.clone())).await;
    assert_eq!(
        (contradiction.status, contradiction.code()),
        (400, "INVALID_RESOURCE")
    );
    both["identifier"]["value"] = json!("urn:uuid:3");
    let fourth = lab.post(&replacing("urn:uuid:4", both)).await.id();
    assert_eq!(
        (lab.stored(&fourth).version, lab.stored(&fourth).status),
        (1, Status::Current)
    );

    let deleted = lab.post(&pointer(PATIENT, "RR8", "urn:uuid:deleted")).await.id();
    lab.delete(&deleted).await;
    for missing in [
        reference("none"),
        reference(&deleted),
        by_identifier("urn:uuid:none"),
    ] {
        let refused = lab.post(&replacing("urn:uuid:5", missing)).await;
        assert_eq!((refused.status, refused.code()), (400, "INVALID_RESOURCE"));
        assert_eq!(
            refused.diagnostics(),
            "Referenced DocumentReference does not exist."
        );
    }
    let stale = lab.post(&replacing("urn:uuid:5", reference(&old))).await;
    assert_eq!(stale.diagnostics(), "DocumentReference status is not 'current'");

    let before = lab.stored(&fourth);
    let duplicate = lab.post(&replacing("urn:uuid:1", reference(&fourth))).await;
    assert_eq!(duplicate.code(), "DUPLICATE_REJECTED");
    assert_eq!(lab.stored(&fourth), before);
    assert_eq!(lab.changes(&fourth), [("create".into(), 1, Status::Current)]);
}

#[tokio::test]
async fn an_update_withdraws_a_pointer_once() {
    let lab = Lab::start().await;
    let id = lab.post(&pointer(PATIENT, "RR8", "urn:uuid:a")).await.id();
    let mut other = withdrawal();
    other["parameter"][0]["part"][2]["valueString"] = json!("superseded");
    assert_eq!(lab.patch(&id, &other).await.code(), "INVALID_RESOURCE");
    assert_eq!(lab.stored(&id).version, 1);

    let updated = lab.patch(&id, &withdrawal()).await;
    assert_eq!((updated.status, updated.code()), (200, "RESOURCE_UPDATED"));
    assert_eq!(
        updated.diagnostics(),
        format!("Successfully updated resource DocumentReference: {PUBLIC}{COLLECTION}/{id}")
    );
    assert_eq!(
        (lab.stored(&id).version, lab.stored(&id).status),
        (2, Status::EnteredInError)
    );
    for refused in [
        lab.patch(&id, &withdrawal()).await,
        lab.get(&format!("{COLLECTION}/{id}")).await,
        lab.delete(&id).await,
    ] {
        assert_eq!((refused.status, refused.code()), (400, "BAD_REQUEST"));
    }
    assert_eq!(lab.stored(&id).version, 2);
    assert_eq!(lab.patch("none", &withdrawal()).await.code(), "NO_RECORD_FOUND");
}

#[tokio::test]
async fn a_pointer_is_also_named_by_its_patient_and_identifier_and_to_be_deleted_by_a_parameter() {
    let lab = Lab::start().await;
    let by_name = |value: &str| {
        format!(
            "{COLLECTION}?subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F{PATIENT}\
             &identifier=urn%3Aietf%3Arfc%3A3986%7C{value}"
        )
    };
    let json = Some("application/fhir+json");
    let [a, b, c] = ["urn:uuid:a", "urn:uuid:b", "urn:uuid:c"].map(|name| pointer(PATIENT, "RR8", name));
    let (a, b, c) = (
        lab.post(&a).await.id(),
        lab.post(&b).await.id(),
        lab.post(&c).await.id(),
    );
    let update = async |target: String| lab.send("PATCH", &target, json, withdrawal().to_string()).await;
    let delete = async |target: String| lab.send("DELETE", &target, None, String::new()).await;
    assert_eq!(update(by_name("urn:uuid:a")).await.code(), "RESOURCE_UPDATED");
    assert_eq!(lab.stored(&a).status, Status::EnteredInError);
    assert_eq!(update(by_name("urn:uuid:a")).await.code(), "BAD_REQUEST");
    assert_eq!(delete(by_name("urn:uuid:b")).await.code(), "RESOURCE_DELETED");
    assert_eq!(delete(by_name("urn:uuid:b")).await.code(), "NO_RECORD_FOUND");
    assert_eq!(
        delete(format!("{COLLECTION}?_id={c}")).await.code(),
        "RESOURCE_DELETED"
    );
    assert!(lab.stored(&b).deleted && lab.stored(&c).deleted);
    for (method, target, code) in [
        ("PATCH", by_name("urn:uuid:none"), "NO_RECORD_FOUND"),
        ("PATCH", format!("{COLLECTION}?_id={a}"), "INVALID_PARAMETER"),
        ("DELETE", format!("{}&_id={a}", by_name("x")), "INVALID_PARAMETER"),
        ("DELETE", format!("{COLLECTION}/{a}?_id={a}"), "INVALID_PARAMETER"),
        ("DELETE", COLLECTION.to_owned(), "INVALID_PARAMETER"),
    ] {
        let body = if method == "PATCH" {
            withdrawal().to_string()
        } else {
            String::new()
        };
        let refused = lab.send(method, &target, json, body).await;
        assert_eq!(refused.code(), code, "{method} {target}");
    }
}

#[test]
fn a_change_is_made_to_the_version_that_it_asks_for_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("pointers.db")).unwrap();
    let new = NewPointer::parse(pointer(PATIENT, "RR8", "urn:uuid:a").to_string().as_bytes()).unwrap();
    let id = store.create(&new, SystemTime::UNIX_EPOCH).unwrap();
    let naming = Naming::Id(id.clone());
    let of = |if_match: &'static str| {
        let mut headers = hyper::HeaderMap::new();
        headers.insert("if-match", hyper::header::HeaderValue::from_static(if_match));
        Condition::of(&headers)
    };
    for other in ["W/\"2\"", "\"11\"", "1", ""] {
        let refused = store.withdraw(&naming, &of(other), SystemTime::UNIX_EPOCH);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "The DocumentReference has another version.",
            "{other}"
        );
        assert!(store.delete(&naming, &of(other), SystemTime::UNIX_EPOCH).is_err());
    }
    assert_eq!(store.stored(&id).unwrap().unwrap().version, 1);
    store
        .withdraw(&naming, &of("\"0\", W/\"1\""), SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(Condition::of(&hyper::HeaderMap::new()), Condition::Any);
    assert_eq!(of("*"), Condition::Any);
}

#[tokio::test]
async fn a_deleted_pointer_is_found_by_nobody_and_its_row_stays() {
    let lab = Lab::start().await;
    let id = lab.post(&pointer(PATIENT, "RR8", "urn:uuid:a")).await.id();
    let deleted = lab.delete(&id).await;
    assert_eq!((deleted.status, deleted.code()), (200, "RESOURCE_DELETED"));
    assert_eq!(
        deleted.diagnostics(),
        format!("Successfully removed resource DocumentReference: {PUBLIC}{COLLECTION}/{id}")
    );
    for refused in [
        lab.get(&format!("{COLLECTION}/{id}")).await,
        lab.delete(&id).await,
    ] {
        assert_eq!((refused.status, refused.code()), (404, "NO_RECORD_FOUND"));
        assert_eq!(
            refused.diagnostics(),
            format!("No record found for supplied DocumentReference identifier - {id}.")
        );
    }
    assert!(lab.stored(&id).deleted);
    let last = ("delete".into(), 1, Status::Current);
    assert_eq!(lab.changes(&id), [("create".into(), 1, Status::Current), last]);
}

#[tokio::test]
async fn what_is_malformed_is_refused_with_the_row_of_the_error_table() {
    let lab = Lab::start().await;
    let good = pointer(PATIENT, "RR8", "urn:uuid:a");
    for element in [
        "resourceType",
        "status",
        "type",
        "class",
        "subject",
        "author",
        "custodian",
        "content",
        "context",
    ] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(element);
        let refused = lab.post(&bad).await;
        assert_eq!(
            (refused.status, refused.code()),
            (400, "INVALID_RESOURCE"),
            "{element}"
        );
        assert!(
            refused.diagnostics().contains(element),
            "{element}: {}",
            refused.diagnostics()
        );
    }
    for (path, value, code) in [
        (
            "/subject/reference",
            json!(format!("urn:patient:{PATIENT}")),
            "INVALID_RESOURCE",
        ),
        (
            "/subject/reference",
            json!("https://demographics.spineservices.nhs.uk/STU3/Patient/9876543211"),
            "INVALID_NHS_NUMBER",
        ),
        ("/custodian", json!("RR8"), "INVALID_RESOURCE"),
        ("/masterIdentifier", json!("urn:uuid:a"), "INVALID_RESOURCE"),
        ("/content/0/attachment/url", json!(""), "INVALID_RESOURCE"),
        ("/status", json!("superseded"), "INVALID_RESOURCE"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        assert_eq!(lab.post(&bad).await.code(), code, "{path}");
    }
    let mut twice = replacing(
        "urn:uuid:b",
        json!({ "reference": "https://x/DocumentReference/1" }),
    );
    let first = twice["relatesTo"][0].clone();
    twice["relatesTo"].as_array_mut().unwrap().push(first);
    assert_eq!(
        lab.post(&twice).await.diagnostics(),
        "Only one relatesTo is allowed."
    );

    let json = Some("application/fhir+json");
    for (method, target, media_type, body, status, code) in [
        ("POST", COLLECTION, json, "{", 400, "INVALID_REQUEST_MESSAGE"),
        ("POST", COLLECTION, json, "[]", 400, "INVALID_REQUEST_MESSAGE"),
        ("POST", COLLECTION, json, "", 400, "INVALID_REQUEST_MESSAGE"),
        (
            "POST",
            COLLECTION,
            Some("application/fhir+xml"),
            "<x/>",
            400,
            "INVALID_REQUEST_MESSAGE",
        ),
        (
            "POST",
            COLLECTION,
            Some("text/xml"),
            "<x/>",
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        ("POST", COLLECTION, None, "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (
            "POST",
            "/STU3/DocumentReference?x=1",
            json,
            "{}",
            400,
            "INVALID_PARAMETER",
        ),
        (
            "PATCH",
            "/STU3/DocumentReference/a",
            json,
            "{}",
            400,
            "INVALID_RESOURCE",
        ),
        ("GET", COLLECTION, None, "", 400, "INVALID_PARAMETER"),
        (
            "GET",
            "/STU3/DocumentReference?_id=a&_format=xml",
            None,
            "",
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            "GET",
            "/STU3/DocumentReference/a",
            None,
            "",
            404,
            "NO_RECORD_FOUND",
        ),
        (
            "GET",
            "/STU3/DocumentReference/a/_history",
            None,
            "",
            404,
            "BAD_REQUEST",
        ),
        ("GET", "/STU3/DocumentReferences", None, "", 404, "BAD_REQUEST"),
        ("GET", "/STU3/DocumentReference/", None, "", 404, "BAD_REQUEST"),
        ("GET", "/", None, "", 404, "BAD_REQUEST"),
        ("PUT", "/STU3/DocumentReference/a", json, "{}", 405, "BAD_REQUEST"),
        ("DELETE", COLLECTION, None, "", 400, "INVALID_PARAMETER"),
        ("PUT", COLLECTION, None, "", 405, "BAD_REQUEST"),
    ] {
        let refused = lab.send(method, target, media_type, body.to_owned()).await;
        assert_eq!(
            (refused.status, refused.code()),
            (status, code),
            "{method} {target} {body}"
        );
    }
    let large = lab
        .send("POST", COLLECTION, json, " ".repeat(6 * 1024 * 1024))
        .await;
    assert_eq!(large.status, 413);
    assert_eq!(lab.sql("SELECT count(*) FROM pointer"), 0);
}

#[tokio::test]
async fn concurrent_creates_all_succeed_but_for_a_shared_master_identifier() {
    let lab = Lab::start().await;
    let mut requests = tokio::task::JoinSet::new();
    for index in 0..48 {
        let value = if index % 3 == 0 {
            "urn:uuid:shared".to_owned()
        } else {
            format!("urn:uuid:{index}")
        };
        let body = pointer(PATIENT, "RR8", &value).to_string();
        let request = lab.begin("POST", COLLECTION, Some("application/fhir+json"), body);
        requests.spawn(async move { (value, Answered::from(request).await) });
    }
    let (mut ids, mut shared, mut refused) = (HashSet::new(), 0, 0);
    for (value, answered) in requests.join_all().await {
        if answered.status == 201 {
            shared += i32::from(value == "urn:uuid:shared");
            ids.insert(answered.id());
        } else {
            assert_eq!(
                (value.as_str(), answered.code()),
                ("urn:uuid:shared", "DUPLICATE_REJECTED")
            );
            refused += 1;
        }
    }
    assert_eq!((ids.len(), shared, refused), (33, 1, 15));
    assert_eq!(lab.sql("SELECT count(*) FROM pointer"), 33);
    assert!(ids.iter().all(|id| lab.stored(id).version == 1));
}

#[tokio::test]
async fn what_is_stored_outlives_the_process_and_the_order_to_stop_is_obeyed() {
    let mut lab = Lab::start().await;
    let id = lab.post(&pointer(PATIENT, "RR8", "urn:uuid:a")).await.id();
    // The client keeps its connection open; that must not hold the server up.
    lab.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(1), lab.server.take().unwrap())
        .await
        .unwrap()
        .unwrap();
    let reopened = Store::open(&lab.folder.path().join("pointers.db")).unwrap();
    assert_eq!(reopened.read(&id).unwrap().custodian, "RR8");
}

#[test]
fn two_processes_supersede_at_once_and_neither_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pointers.db");
    let replace_often = |name: &str| {
        let store = Store::open(&file).unwrap();
        let parse = |body: serde_json::Value| NewPointer::parse(body.to_string().as_bytes()).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        let mut id = store.create(&parse(pointer(PATIENT, "RR8", name)), now).unwrap();
        for round in 0..50 {
            let target = json!({ "reference": format!("{PUBLIC}{COLLECTION}/{id}") });
            id = store
                .create(&parse(replacing(&format!("{name}-{round}"), target)), now)
                .unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| replace_often("a"));
        scope.spawn(|| replace_often("b"));
    });
}
