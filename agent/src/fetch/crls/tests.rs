//! The fetcher against a server on the loopback interface that can be told how to misbehave.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use openssl::asn1::Asn1Time;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::tls::testing::Ca;

const LARGEST: usize = 4096;
const PATIENCE: Duration = Duration::from_millis(300);

/// What the server does with a request.
#[derive(Clone)]
enum Manner {
    Give(Vec<u8>),
    /// With these status and header lines, and nothing else.
    Say(&'static str),
    /// An answer without end, a byte at a time.
    Trickle,
}

struct Server {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            manner: Arc::new(Mutex::new(manner)),
            asked: Arc::default(),
        };
        let (manner, asked) = (Arc::clone(&server.manner), Arc::clone(&server.asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                asked.fetch_add(1, Ordering::Relaxed);
                let manner = manner.lock().unwrap().clone();
                let answer = match manner {
                    Manner::Give(body) => {
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                        [head.as_bytes(), &body].concat()
                    }
                    Manner::Say(head) => format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
                    Manner::Trickle => {
                        tokio::spawn(async move {
                            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                            while stream.write_all(b"x").await.is_ok() {
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                        });
                        continue;
                    }
                };
                let _ = stream.write_all(&answer).await;
            }
        });
        server
    }

    fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn url(&self, path: &str) -> HttpUrl {
        format!("http://{}/{path}", self.address).parse().unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A CA, a server, and a fetcher that may ask it.
struct World {
    ca: Ca,
    server: Server,
    _place: TempDir,
    settings: CrlFetch,
}

impl World {
    async fn new() -> Self {
        let ca = Ca::root("Sub");
        let server = Server::start(Manner::Give(crl(&ca, 5))).await;
        let place = tempfile::tempdir().unwrap();
        let settings = CrlFetch {
            hosts: vec![server.address.to_string().parse().unwrap()],
            urls: vec![server.url("sub.crl")],
            folder: place.path().join("crl"),
            timeout: PATIENCE,
            max_bytes: LARGEST,
            interval: Duration::from_secs(3600),
        };
        Self {
            ca,
            server,
            _place: place,
            settings,
        }
    }

    fn authorities(&self) -> Authorities {
        Authorities {
            certificates: vec![self.ca.certificate.clone()],
            distribution_points: Vec::new(),
        }
    }

    fn fetcher(&self) -> Arc<CrlFetcher> {
        Arc::new(CrlFetcher::new(&self.settings, self.authorities()))
    }

    fn url(&self) -> HttpUrl {
        self.server.url("sub.crl")
    }

    fn file(&self) -> PathBuf {
        Folder::new(&self.settings.folder).file(&self.url())
    }

    fn kept(&self) -> Option<String> {
        let content = std::fs::read(self.file()).ok()?;
        let kept = Candidate::read(&content, &self.authorities().certificates).unwrap();
        Some(kept.to_string())
    }
}

/// From yesterday to tomorrow by the clock, in DER.
fn crl(ca: &Ca, number: u8) -> Vec<u8> {
    let crl = ca.numbered_crl(number, &[], |crl| {
        let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
        let at = |seconds| Asn1Time::from_unix(now + seconds).unwrap();
        crl.set_last_update(&at(-86_400)).unwrap();
        crl.set_next_update(&at(86_400)).unwrap();
    });
    crl.to_der().unwrap()
}

#[tokio::test]
async fn a_sound_crl_is_kept_and_due_again_before_its_end() {
    let world = World::new().await;
    let fetcher = world.fetcher();
    let fetched = fetcher.fetch_all().await;
    assert!(
        fetched[&world.url()]
            .as_ref()
            .unwrap()
            .starts_with("new: number 05 ")
    );
    assert!(world.kept().unwrap().starts_with("number 05 "));
    let [status] = fetcher.status().try_into().unwrap();
    assert_eq!(status.origin, FetchOrigin::Configuration);
    assert_eq!((status.failures, status.last_error), (0, None));
    assert!(status.last_success.is_some());
    let next = humantime::parse_rfc3339(&status.next_attempt).unwrap();
    let pause = next.duration_since(SystemTime::now()).unwrap();
    assert!(
        pause > Duration::from_secs(2800) && pause <= world.settings.interval,
        "{pause:?}"
    );

    assert!(
        fetcher.fetch_all().await[&world.url()]
            .as_ref()
            .unwrap()
            .starts_with("unchanged: ")
    );
    // A restarted agent goes on with what is kept.
    assert!(world.fetcher().take_due(SystemTime::now()).is_empty());
}

#[tokio::test]
async fn whatever_else_comes_leaves_the_kept_crl_as_it_was() {
    let world = World::new().await;
    let fetcher = world.fetcher();
    fetcher.fetch_all().await;
    let before = std::fs::read(world.file()).unwrap();
    let rogue = Ca::root("Rogue");
    let larger = vec![b'x'; LARGEST + 1];
    let elsewhere = "302 Found\r\nLocation: /other.crl";
    for (manner, words) in [
        (Manner::Say("404 Not Found"), "status 404"),
        (Manner::Say("204 No Content"), "status 204"),
        (Manner::Say(elsewhere), "redirects are not followed"),
        (Manner::Say("garbage"), "can't be asked"),
        (Manner::Give(larger), "more than 4096 bytes"),
        (Manner::Trickle, "within 300ms"),
        (Manner::Give(b"<html>".to_vec()), "no CRL"),
        (Manner::Give(Vec::new()), "no CRL"),
        (Manner::Give(crl(&rogue, 9)), "has signed it"),
        (Manner::Give(crl(&world.ca, 4)), "older than the one that is kept"),
    ] {
        let asked = world.server.asked();
        world.server.behave(manner);
        let fetched = fetcher.fetch_all().await;
        let fault = fetched[&world.url()].as_ref().unwrap_err();
        assert!(fault.contains(words), "wanted {words:?}, but: {fault}");
        assert_eq!(world.server.asked(), asked + 1, "{words}");
        assert_eq!(std::fs::read(world.file()).unwrap(), before, "{words}");
        let [status] = fetcher.status().try_into().unwrap();
        assert_eq!(status.last_error.as_ref(), Some(fault));
    }
    let [status] = fetcher.status().try_into().unwrap();
    assert_eq!(status.failures, 10);

    world.server.behave(Manner::Give(crl(&world.ca, 6)));
    fetcher.fetch_all().await;
    assert!(world.kept().unwrap().starts_with("number 06 "));
    let [status] = fetcher.status().try_into().unwrap();
    assert_eq!((status.failures, status.last_error), (0, None));
}

#[tokio::test]
async fn a_file_that_is_no_crl_is_replaced_by_one() {
    let world = World::new().await;
    let fetcher = world.fetcher();
    std::fs::write(world.file(), "half a file").unwrap();
    fetcher.fetch_all().await;
    assert!(world.kept().unwrap().starts_with("number 05 "));
}

#[tokio::test]
async fn only_listed_hosts_are_ever_asked() {
    let world = World::new().await;
    let other = Server::start(Manner::Give(crl(&world.ca, 5))).await;
    let fetcher = world.fetcher();
    for url in [
        other.url("a.crl").to_string(),
        format!("https://{}/a.crl", world.server.address),
        format!("http://{}@{}/a.crl", world.server.address, other.address),
        "ldap:///cn=a".to_owned(),
    ] {
        fetcher.note(&url, SystemTime::now());
    }
    assert_eq!(fetcher.status().len(), 1);
    // Not even where a list of URLs has been made for other hosts.
    let limits = Limits {
        hosts: &world.settings.hosts,
        timeout: PATIENCE,
        max_bytes: LARGEST,
    };
    let asked = Downloader::new().get(&other.url("a.crl"), limits).await;
    assert!(asked.unwrap_err().to_string().contains("none of the hosts"));
    assert_eq!(other.asked(), 0);
}

#[tokio::test]
async fn what_clients_name_is_fetched_in_the_background_and_kept_over_a_restart() {
    let world = World::new().await;
    let fetcher = world.fetcher();
    let (teller, ear) = crate::tls::Wanted::new();
    let end = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&fetcher).run(ear, end.clone()));
    let named = world.server.url("crlc7.crl");
    teller.note(named.as_str());
    let file = Folder::new(&world.settings.folder).file(&named);
    for _ in 0..200 {
        if file.exists() && world.file().exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(file.exists() && world.file().exists());
    end.cancel();
    running.await.unwrap();
    teller.note("nobody listens");

    let known: Vec<_> = world
        .fetcher()
        .status()
        .into_iter()
        .map(|one| (one.url, one.origin))
        .collect();
    assert!(
        known.contains(&(named.to_string(), FetchOrigin::Client)),
        "{known:?}"
    );
}

#[tokio::test]
async fn of_too_many_named_crls_the_one_that_was_not_named_for_longest_goes() {
    let world = World::new().await;
    let fetcher = world.fetcher();
    let now = SystemTime::now();
    let url = |number: usize| world.server.url(&format!("crlc{number}.crl")).to_string();
    for number in 0..MAX_NAMED {
        fetcher.note(&url(number), now);
    }
    fetcher.note(&url(0), now);
    fetcher.note(&url(MAX_NAMED), now);
    let known: Vec<_> = fetcher.status().into_iter().map(|one| one.url).collect();
    assert_eq!(known.len(), MAX_NAMED + 1, "with the configured one");
    assert!(known.contains(&url(0)) && known.contains(&url(MAX_NAMED)) && !known.contains(&url(1)));
}

#[tokio::test]
async fn another_configuration_ends_what_it_does_not_allow_and_begins_what_it_names() {
    let world = World::new().await;
    let fetcher = world.fetcher();
    fetcher.note(world.server.url("crlc7.crl").as_str(), SystemTime::now());
    fetcher.fetch_all().await;
    let mut settings = world.settings.clone();
    settings.urls.clear();
    let authorities = Authorities {
        distribution_points: vec![world.server.url("root.crl").to_string(), "ldap:///".to_owned()],
        ..world.authorities()
    };
    fetcher.configure(&settings, authorities);
    let origins: BTreeMap<_, _> = fetcher
        .status()
        .into_iter()
        .map(|one| (one.url, one.origin))
        .collect();
    assert_eq!(
        origins.get(world.server.url("root.crl").as_str()),
        Some(&FetchOrigin::Issuer)
    );
    // What lies in the folder stays fresh.
    assert_eq!(origins.get(world.url().as_str()), Some(&FetchOrigin::Client));
    assert_eq!(origins.len(), 3);
    assert_eq!(
        fetcher.take_due(SystemTime::now()),
        [world.server.url("root.crl")],
        "those that were fetched just now are not due"
    );
    settings.hosts.clear();
    fetcher.configure(&settings, world.authorities());
    assert!(fetcher.status().is_empty() && fetcher.fetch_all().await.is_empty());
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_put_a_crl_off() {
    let world = World::new().await;
    let fetcher = world.fetcher();
    fetcher.fetch_all().await;
    let now = SystemTime::now();
    assert!(fetcher.take_due(now).is_empty());
    assert_eq!(fetcher.take_due(now - Duration::from_secs(86_400)), [world.url()]);
}
