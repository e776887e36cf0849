//! Which CRLs and OCSP answers certificates ask for: the URLs in them, and the ear of the one who fetches.

use openssl::x509::X509Ref;
use tokio::sync::mpsc;

/// URLs that wait to be heard; more are forgotten until a client comes again.
const WAITING: usize = 64;

/// Tells the one who fetches CRLs which are wanted.
#[derive(Clone, Debug)]
pub struct Wanted(mpsc::Sender<String>);

impl Wanted {
    /// A teller and its ear.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (teller, ear) = mpsc::channel(WAITING);
        (Self(teller), ear)
    }

    /// Tells of a URL, if that is possible at once.
    pub fn note(&self, url: &str) {
        // Full or gone: nobody waits for it here.
        let _ = self.0.try_send(url.to_owned());
    }
}

/// The URLs in the distribution points of a certificate (RFC 5280 section 4.2.1.13).
pub(super) fn distribution_points(certificate: &X509Ref) -> Vec<String> {
    let points = certificate.crl_distribution_points();
    let mut urls = Vec::new();
    for point in points.iter().flatten() {
        let names = point.distpoint().and_then(|name| name.fullname());
        urls.extend(
            names
                .into_iter()
                .flatten()
                .filter_map(|name| name.uri().map(str::to_owned)),
        );
    }
    urls
}
