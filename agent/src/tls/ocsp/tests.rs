//! Answers as `openssl ocsp` gives them, good ones and others. They are of the clock's time, as that is.

use std::{fs, process::Command, thread};

use openssl::{ocsp::OcspResponse, x509::extension::ExtendedKeyUsage};
use tempfile::TempDir;

use super::*;
use crate::tls::testing::{self, Ca, DAY, Template};

const HOUR: Duration = Duration::from_secs(3600);
const FOR_AN_HOUR: [&str; 2] = ["-nmin", "60"];

/// A CA with a certificate that is in question, and what its responder works with.
struct World {
    issuer: Ca,
    leaf: X509,
    place: TempDir,
}

impl World {
    fn new() -> Self {
        let issuer = Ca::root("Root").subordinate(lasting(Template::ca("Sub")));
        let leaf = issuer.issue(lasting(Template::leaf()));
        Self {
            issuer,
            leaf,
            place: tempfile::tempdir().unwrap(),
        }
    }

    fn question(&self) -> Question {
        Question::new(&self.leaf, &self.issuer.certificate, 0, SystemTime::now()).unwrap()
    }

    /// The responder's answer about the leaf, which stands in its index with this mark: V valid, R revoked.
    fn answer(&self, mark: char, signer: &X509, options: &[&str]) -> Vec<u8> {
        let serial = self.leaf.serial_number().to_bn().unwrap().to_hex_str().unwrap();
        let revoked = if mark == 'R' { "240101000000Z" } else { "" };
        let entry = format!("{mark}\t330101000000Z\t{revoked}\t{serial}\tunknown\t/CN=leaf\n");
        let write = |name: &str, content: &[u8]| {
            let path = self.place.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let answer = self.place.path().join("answer.der");
        let output = Command::new("openssl")
            .args(["ocsp", "-noverify"])
            .arg("-index")
            .arg(write(
                "index.txt",
                if mark == '-' { b"" } else { entry.as_bytes() },
            ))
            .arg("-CA")
            .arg(write("ca.pem", &self.issuer.certificate.to_pem().unwrap()))
            .arg("-rsigner")
            .arg(write("signer.pem", &signer.to_pem().unwrap()))
            .arg("-rkey")
            .arg(write(
                "key.pem",
                &testing::key().private_key_to_pem_pkcs8().unwrap(),
            ))
            .arg("-reqin")
            .arg(write("request.der", self.question().request()))
            .arg("-respout")
            .arg(&answer)
            .args(options)
            .output()
            .expect("openssl is installed: `cargo xtask setup` does that");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::read(answer).unwrap()
    }

    fn own_answer(&self, mark: char) -> Vec<u8> {
        self.answer(mark, &self.issuer.certificate, &FOR_AN_HOUR)
    }

    fn delegate(&self, template: Template) -> X509 {
        self.issuer.issue(template)
    }
}

/// Valid for years on both sides of the present.
fn lasting(template: Template) -> Template {
    template.with(|template| template.validity = (-DAY, 3650 * DAY))
}

fn signing() -> Vec<openssl::x509::X509Extension> {
    vec![ExtendedKeyUsage::new().other("OCSPSigning").build().unwrap()]
}

#[test]
fn an_answer_of_the_issuer_counts_until_its_end() {
    let world = World::new();
    // The answer first: it says its time in whole seconds.
    let (question, answer) = (world.question(), world.own_answer('V'));
    let now = SystemTime::now();
    assert_eq!(question.standing(now), Standing::Unknown);
    assert!(!question.learn(&answer, now).unwrap());
    assert!(matches!(question.standing(now), Standing::Good(left) if left <= HOUR && left > HOUR * 9 / 10));
    assert!(!question.is_ageing(now, 1.0) && question.is_ageing(now + HOUR * 9 / 10, 0.0));
    assert_eq!(question.standing(now + HOUR * 2), Standing::Unknown);
}

#[test]
fn a_revocation_is_news_once_and_an_older_answer_does_not_take_it_back() {
    let world = World::new();
    let (question, good) = (world.question(), world.own_answer('V'));
    // Answers are told apart by the second.
    thread::sleep(Duration::from_millis(1100));
    let revoked = world.own_answer('R');
    let now = SystemTime::now();
    assert!(question.learn(&revoked, now).unwrap());
    assert!(!question.learn(&revoked, now).unwrap());
    assert!(matches!(question.learn(&good, now), Err(OcspError::Older(_))));
    assert_eq!(question.standing(now), Standing::Revoked);
    assert_eq!(
        question.standing(now + HOUR * 48),
        Standing::Revoked,
        "whatever its age"
    );
    thread::sleep(Duration::from_millis(1100));
    question.learn(&world.own_answer('V'), SystemTime::now()).unwrap();
    assert!(matches!(question.standing(SystemTime::now()), Standing::Good(_)));
}

#[test]
fn a_responder_is_the_issuer_or_one_whom_it_has_made_its_delegate() {
    let world = World::new();
    let now = SystemTime::now();
    let learnt = |signer: &X509| {
        world
            .question()
            .learn(&world.answer('V', signer, &FOR_AN_HOUR), now)
    };
    let delegate = |extensions, validity| {
        world.delegate(Template::leaf().with(|leaf| {
            leaf.common_names = vec!["Responder"];
            leaf.extensions = extensions;
            leaf.validity = validity;
        }))
    };
    assert!(learnt(&delegate(signing(), (-DAY, 3650 * DAY))).is_ok());
    let other = Ca::root("Other").subordinate(lasting(Template::ca("Other Sub")));
    let others_delegate = other.issue(lasting(Template::leaf().with(|leaf| leaf.extensions = signing())));
    for (what, signer) in [
        (
            "a client",
            delegate(vec![testing::client_auth()], (-DAY, 3650 * DAY)),
        ),
        ("a delegate that has expired", delegate(signing(), (-DAY, DAY))),
        ("another CA", other.certificate.clone()),
        ("another CA's delegate", others_delegate),
        ("a root of nobody", Ca::root("Nobody").certificate),
    ] {
        assert!(matches!(learnt(&signer), Err(OcspError::Unsound(_))), "{what}");
    }
}

#[test]
fn what_is_not_about_this_certificate_and_this_time_counts_for_nothing() {
    let world = World::new();
    let now = SystemTime::now();
    let good = world.answer('V', &world.issuer.certificate, &["-nmin", "60", "-resp_no_certs"]);
    let learn = |der: &[u8], now| world.question().learn(der, now);
    assert!(learn(&good, now).is_ok());
    for then in [now + HOUR * 2, now - HOUR] {
        assert!(matches!(learn(&good, then), Err(OcspError::Stale { .. })));
    }
    assert!(matches!(
        learn(&world.own_answer('-'), now),
        Err(OcspError::Unknown)
    ));
    let sibling = world.issuer.issue(lasting(Template::leaf()));
    let other = Question::new(&sibling, &world.issuer.certificate, 0, now).unwrap();
    assert!(matches!(other.learn(&good, now), Err(OcspError::Other)));
    // Its last byte is the signature's.
    let mut forged = good;
    *forged.last_mut().unwrap() ^= 1;
    for bad in [&forged[..], b"<html>", b""] {
        assert!(matches!(learn(bad, now), Err(OcspError::Unsound(_))));
    }
    let later = OcspResponse::create(OcspResponseStatus::TRY_LATER, None).unwrap();
    assert!(matches!(
        learn(&later.to_der().unwrap(), now),
        Err(OcspError::Refused("try later"))
    ));
}

#[test]
fn an_answer_without_an_end_counts_for_ten_minutes() {
    let world = World::new();
    let now = SystemTime::now();
    let endless = world.answer('V', &world.issuer.certificate, &[]);
    let question = world.question();
    question.learn(&endless, now).unwrap();
    assert!(matches!(question.standing(now), Standing::Good(left) if left <= ENDLESS_LIFE));
    assert!(matches!(
        world.question().learn(&endless, now + ENDLESS_LIFE * 2),
        Err(OcspError::Stale { .. })
    ));
}

#[test]
fn prefer_refuses_only_the_revoked_and_require_all_but_the_good() {
    let world = World::new();
    let now = SystemTime::now();
    let question = |mark| {
        let question = world.question();
        if mark != '-' {
            question.learn(&world.own_answer(mark), now).unwrap();
        }
        Arc::new(question)
    };
    let (good, revoked, unknown) = (question('V'), question('R'), question('-'));
    let judged = |mode, asked, leaf: &Arc<Question>, issuer: &Arc<Question>| {
        let questions = [Arc::clone(leaf), Arc::clone(issuer)];
        judge(mode, &questions, asked, now)
            .err()
            .map(|fault| fault.reason)
    };
    let (is_revoked, unavailable) = (Some(Reason::CertificateRevoked), Some(Reason::OcspUnavailable));
    for (leaf, issuer, preferred, required, before) in [
        (&good, &good, None, None, None),
        (&good, &revoked, is_revoked, is_revoked, is_revoked),
        (&revoked, &unknown, is_revoked, is_revoked, is_revoked),
        (&unknown, &revoked, is_revoked, is_revoked, is_revoked),
        (&unknown, &good, None, unavailable, None),
        (&good, &unknown, None, unavailable, None),
    ] {
        assert_eq!(judged(OcspMode::Off, true, leaf, issuer), None);
        assert_eq!(judged(OcspMode::Prefer, true, leaf, issuer), preferred);
        assert_eq!(judged(OcspMode::Require, true, leaf, issuer), required);
        assert_eq!(judged(OcspMode::Require, false, leaf, issuer), before);
    }
    let none = judge(OcspMode::Require, &[], true, now)
        .err()
        .map(|fault| fault.reason);
    assert_eq!(none, unavailable);
    assert!(judge(OcspMode::Prefer, &[], true, now).is_ok());
}

#[test]
fn clients_of_one_certificate_share_its_question_and_a_failed_one_waits_its_turn() {
    let world = World::new();
    let now = SystemTime::now();
    let questions = Questions::default();
    let ask = || {
        questions
            .about(&world.leaf, &world.issuer.certificate, 0, now)
            .unwrap()
    };
    let (first, second) = (ask(), ask());
    assert!(Arc::ptr_eq(&first, &second));
    let pause = Duration::from_secs(5);
    assert!(first.take_turn(now, pause) && !second.take_turn(now, pause));
    assert!(first.take_turn(now + pause, pause));
    assert!(
        first.take_turn(now - HOUR, pause),
        "a clock that was set back puts nothing off"
    );
    assert_eq!(questions.seen(now + HOUR).len(), 1, "somebody stands behind it");
    drop((first, second));
    assert_eq!(questions.seen(now + HOUR).len(), 0);
    assert_eq!(questions.seen(now).len(), 1);
}
