//! A running locator with a client, and bodies to send to it.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::locator::{Identifier, Locator, Status, Store, StoredPointer, serve};

pub(in crate::locator) const PUBLIC: &str = "https://locator.example.nhs.uk";
pub(in crate::locator) const COLLECTION: &str = "/STU3/DocumentReference";
pub(in crate::locator) const PATIENT: &str = "9876543210";
pub(in crate::locator) const OTHER_PATIENT: &str = "9434765919";

pub(in crate::locator) struct Lab {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
    /// A second connection to the database, as a black-box test would open.
    store: Store,
    pub(in crate::locator) folder: tempfile::TempDir,
    pub(in crate::locator) stop: Option<oneshot::Sender<()>>,
    pub(in crate::locator) server: Option<JoinHandle<()>>,
}

impl Lab {
    pub(in crate::locator) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pointers.db");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let locator = Locator::new(Store::open(&file).unwrap(), PUBLIC);
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(locator, listener, async move {
            let _ = stopped.await;
        }));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let store = Store::open(&file).unwrap();
        Self {
            url,
            client,
            store,
            folder,
            stop: Some(stop),
            server: Some(server),
        }
    }

    pub(in crate::locator) async fn send(
        &self,
        method: &str,
        target: &str,
        media_type: Option<&str>,
        body: String,
    ) -> Answered {
        Answered::from(self.begin(method, target, media_type, body)).await
    }

    /// A request under way, which many can be at once.
    pub(in crate::locator) fn begin(
        &self,
        method: &str,
        target: &str,
        media_type: Option<&str>,
        body: String,
    ) -> ResponseFuture {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        *request.uri_mut() = format!("{}{target}", self.url).parse().unwrap();
        if let Some(media_type) = media_type {
            request
                .headers_mut()
                .insert("content-type", media_type.parse().unwrap());
        }
        self.client.request(request)
    }

    pub(in crate::locator) async fn get(&self, target: &str) -> Answered {
        self.send("GET", target, None, String::new()).await
    }

    pub(in crate::locator) async fn post(&self, body: &Value) -> Answered {
        self.send(
            "POST",
            COLLECTION,
            Some("application/fhir+json"),
            body.to_string(),
        )
        .await
    }

    pub(in crate::locator) async fn patch(&self, id: &str, body: &Value) -> Answered {
        let target = format!("{COLLECTION}/{id}");
        self.send(
            "PATCH",
            &target,
            Some("application/fhir+json; charset=utf-8"),
            body.to_string(),
        )
        .await
    }

    pub(in crate::locator) async fn delete(&self, id: &str) -> Answered {
        self.send("DELETE", &format!("{COLLECTION}/{id}"), None, String::new())
            .await
    }

    pub(in crate::locator) fn stored(&self, id: &str) -> StoredPointer {
        self.store.stored(id).unwrap().unwrap()
    }

    pub(in crate::locator) fn changes(&self, id: &str) -> Vec<(String, i64, Status)> {
        let changes = self.store.history(id).unwrap();
        changes
            .into_iter()
            .map(|change| (change.operation, change.version, change.status))
            .collect()
    }

    /// One value from the database.
    pub(in crate::locator) fn sql(&self, query: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.folder.path().join("pointers.db")).unwrap();
        connection.query_row(query, [], |row| row.get(0)).unwrap()
    }
}

pub(in crate::locator) struct Answered {
    pub(in crate::locator) status: u16,
    pub(in crate::locator) location: Option<String>,
    pub(in crate::locator) content_type: String,
    pub(in crate::locator) body: Value,
}

impl Answered {
    pub(in crate::locator) async fn from(request: ResponseFuture) -> Self {
        let response = request.await.unwrap();
        let header = |name| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let (status, location) = (response.status().as_u16(), header("location"));
        let content_type = header("content-type").unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Self {
            status,
            location,
            content_type,
            body: serde_json::from_slice(&body).unwrap(),
        }
    }

    pub(in crate::locator) fn id(&self) -> String {
        self.location
            .as_deref()
            .unwrap()
            .rsplit_once('/')
            .unwrap()
            .1
            .to_owned()
    }

    pub(in crate::locator) fn code(&self) -> &str {
        self.body["issue"][0]["details"]["coding"][0]["code"]
            .as_str()
            .unwrap()
    }

    pub(in crate::locator) fn diagnostics(&self) -> &str {
        self.body["issue"][0]["diagnostics"].as_str().unwrap()
    }
}

pub(in crate::locator) fn identifier(value: &str) -> Identifier {
    Identifier {
        system: "urn:ietf:rfc:3986".into(),
        value: value.into(),
    }
}

pub(in crate::locator) fn replacing(master: &str, target: Value) -> Value {
    let mut new = pointer(PATIENT, "RR8", master);
    new["relatesTo"] = json!([{ "code": "replaces", "target": target }]);
    new
}

pub(in crate::locator) fn withdrawal() -> Value {
    json!({ "resourceType": "Parameters", "parameter": [{ "name": "operation", "part": [
        { "name": "type", "valueCode": "replace" },
        { "name": "path", "valueString": "DocumentReference.status" },
        { "name": "value", "valueString": "entered-in-error" },
    ] }] })
}

pub(in crate::locator) fn pointer(patient: &str, custodian: &str, master: &str) -> Value {
    json!({
        "resourceType": "DocumentReference",
        "meta": { "profile": ["https://fhir.nhs.uk/STU3/StructureDefinition/NRL-DocumentReference-1"] },
        "masterIdentifier": { "system": "urn:ietf:rfc:3986", "value": master },
        "status": "current",
        "type": { "coding": [{ "system": "http://snomed.info/sct", "code": "736253002" }] },
        "class": { "coding": [{ "system": "http://snomed.info/sct", "code": "734163000" }] },
        "subject": { "reference": format!("https://demographics.spineservices.nhs.uk/STU3/Patient/{patient}") },
        "author": [{ "reference": "https://directory.spineservices.nhs.uk/STU3/Organization/RGD" }],
        "custodian": {
            "reference": format!("https://directory.spineservices.nhs.uk/STU3/Organization/{custodian}"),
        },
        "content": [{ "attachment": {
            "contentType": "application/pdf",
            "url": "https://nrl-rgd.supplier.thirdparty.nhs.uk/RGD/Binary/1",
        } }],
        "context": { "practiceSetting": { "coding": [{ "system": "http://snomed.info/sct", "code": "708168004" }] } },
    })
}
