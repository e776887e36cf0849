//! A PKI like Spine's: RootCA, SubCA, leaves good and bad, CRLs; and the edge's own server certificate.

mod authority;
mod keys;

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};

pub use authority::{Authority, Leaf, Validity};
pub use keys::KeyCache;

use crate::netns::{Family, Host};

/// The name that the edge's certificate is for.
pub const EDGE_FQDN: &str = "edge.lab.nhs.uk";
/// The name that the proxy's certificate is for.
pub const SSP_FQDN: &str = "ssp.lab.nhs.uk";
/// The name that the dedicated system's certificate is for.
pub const SYSTEM_FQDN: &str = "system.lab.nhs.uk";

/// Where the RootCA's CRL is, as the SubCA's certificate says.
pub const ROOT_CRL: &str = "http://127.0.0.1:8088/root.crl";

/// The RootCA's responder, as the SubCA's certificate says.
pub const ROOT_OCSP: &str = "http://127.0.0.1:2560/";

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PEM: the leaf, then the CA that issued it.
    pub cert: PathBuf,
    /// PEM: the leaf's key.
    pub key: PathBuf,
}

/// The files of a PKI, and the authorities that issued them, to issue more.
#[derive(Debug)]
pub struct Pki {
    /// PEM: the RootCA.
    pub root: PathBuf,
    /// PEM: the SubCA that the gateway pins.
    pub sub: PathBuf,
    /// PEM: the CA of the edge's own certificate.
    pub server_ca: PathBuf,
    /// The edge's own certificate.
    pub server: Identity,
    /// The folder with the CRLs of RootCA and SubCA.
    pub crls: PathBuf,
    /// The clients' certificates, by the names in `lab.json`.
    pub leaves: BTreeMap<&'static str, Identity>,
    /// The RootCA.
    pub root_authority: Authority,
    /// The SubCA.
    pub sub_authority: Authority,
}

impl Pki {
    /// Issues everything anew into a folder. Only the keys may be old.
    ///
    /// # Errors
    /// OpenSSL or the file system refused.
    pub fn issue(folder: &Path, keys: &KeyCache) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        let root_authority = Authority::root("Lab Root Authority", keys.get("root")?)?;
        let sub_authority =
            root_authority.subordinate("Lab Authentication", keys.get("sub")?, (ROOT_CRL, ROOT_OCSP))?;
        let other_sub = root_authority.subordinate(
            "Lab Other Authentication",
            keys.get("other_sub_ca")?,
            (ROOT_CRL, ROOT_OCSP),
        )?;
        let rogue = Authority::root("Rogue Root Authority", keys.get("rogue_ca")?)?;
        let server_ca = Authority::root("Lab Server Authority", keys.get("server_ca")?)?;

        let write = |name: &str, bytes: Vec<u8>| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("can't write {}", path.display()))?;
            Ok(path)
        };
        let crls = folder.join("crl");
        fs::create_dir_all(&crls).with_context(|| format!("can't make {}", crls.display()))?;

        let server = Leaf::server(EDGE_FQDN)
            .address(Host::Edge.address(Family::V4))
            .address(Host::Edge.address(Family::V6));
        let server = issue(folder, keys, "server", &server, Some(&server_ca))?;

        let mut leaves = BTreeMap::new();
        for (name, leaf, issuer) in [
            ("good", Leaf::client(SSP_FQDN), Some(&sub_authority)),
            ("system", Leaf::client(SYSTEM_FQDN), Some(&sub_authority)),
            (
                "wrong_fqdn",
                Leaf::client("elsewhere.lab.nhs.uk"),
                Some(&sub_authority),
            ),
            (
                "expired",
                Leaf::client(SSP_FQDN).valid(Validity::past()),
                Some(&sub_authority),
            ),
            (
                "not_yet_valid",
                Leaf::client(SSP_FQDN).valid(Validity::future()),
                Some(&sub_authority),
            ),
            ("revoked", Leaf::client(SSP_FQDN), Some(&sub_authority)),
            ("self_signed", Leaf::client(SSP_FQDN), None),
            ("rogue", Leaf::client(SSP_FQDN), Some(&rogue)),
            ("other_sub", Leaf::client(SSP_FQDN), Some(&other_sub)),
            ("no_client_auth", Leaf::server(SSP_FQDN), Some(&sub_authority)),
            (
                "cn_only",
                Leaf::client(SSP_FQDN).without_san(),
                Some(&sub_authority),
            ),
        ] {
            leaves.insert(name, issue(folder, keys, name, &leaf, issuer)?);
        }

        let pki = Self {
            root: write("root.pem", root_authority.pem()?)?,
            sub: write("sub.pem", sub_authority.pem()?)?,
            server_ca: write("server_ca.pem", server_ca.pem()?)?,
            server,
            crls,
            leaves,
            root_authority,
            sub_authority,
        };
        pki.publish_crls(Validity::days(-1, 30))?;
        Ok(pki)
    }

    /// A client's certificate of the SubCA's, made anew, over a key that has the same name.
    ///
    /// # Errors
    /// OpenSSL or the file system refused.
    pub fn client(&self, name: &str, leaf: &Leaf) -> Result<Identity> {
        let folder = self.root.parent().context("a PKI without a folder")?;
        issue(
            folder,
            &KeyCache::in_folder(folder),
            name,
            leaf,
            Some(&self.sub_authority),
        )
    }

    /// A client's certificate by its name in `lab.json`.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn leaf(&self, name: &str) -> Result<&Identity> {
        self.leaves
            .get(name)
            .with_context(|| format!("the lab's PKI has no leaf named {name:?}"))
    }

    /// Publishes CRLs of RootCA and SubCA, each at once as a careful program does: the SubCA's lists the leaf `revoked`.
    ///
    /// # Errors
    /// OpenSSL or the file system refused.
    pub fn publish_crls(&self, validity: Validity) -> Result<()> {
        let revoked = authority::first_certificate(&self.leaf("revoked")?.cert)?;
        self.publish_crl("root.pem", &self.root_authority.crl(&[], validity)?)?;
        self.publish_crl("sub.pem", &self.sub_authority.crl(&[&revoked], validity)?)
    }

    /// Replaces a CRL, or what is to be taken for one, by renaming another file over it.
    ///
    /// # Errors
    /// The file system refused.
    pub fn publish_crl(&self, name: &str, content: &[u8]) -> Result<()> {
        let (beside, file) = (self.crls.join(".new"), self.crls.join(name));
        fs::write(&beside, content).with_context(|| format!("can't write {}", beside.display()))?;
        fs::rename(&beside, &file).with_context(|| format!("can't write {}", file.display()))
    }
}

fn issue(
    folder: &Path,
    keys: &KeyCache,
    name: &str,
    leaf: &Leaf,
    issuer: Option<&Authority>,
) -> Result<Identity> {
    let key = keys.get(name)?;
    let identity = Identity {
        cert: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    let chain = match issuer {
        Some(issuer) => [issuer.issue(leaf, &key)?, issuer.pem()?].concat(),
        None => leaf.self_signed(&key)?,
    };
    fs::write(&identity.cert, chain).with_context(|| format!("can't write {}", identity.cert.display()))?;
    keys::write_private(&identity.key, &key)?;
    Ok(identity)
}

impl Validity {
    /// From a day of the past or future to another, counted from today.
    #[must_use]
    pub fn days(from: i32, to: i32) -> Self {
        let day = |days: i32| {
            let distance = DAY * days.unsigned_abs();
            let now = SystemTime::now();
            if days < 0 { now - distance } else { now + distance }
        };
        Self {
            from: day(from),
            to: day(to),
        }
    }

    /// Three years, as Spine's leaves have, of which some have passed.
    #[must_use]
    pub fn present() -> Self {
        Self::days(-365, 730)
    }

    /// Over since yesterday.
    #[must_use]
    pub fn past() -> Self {
        Self::days(-730, -1)
    }

    /// Begins tomorrow.
    #[must_use]
    pub fn future() -> Self {
        Self::days(1, 730)
    }
}

/// An address as a subject alternative name.
pub(crate) type Address = IpAddr;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Run;

    fn verify(pki: &Pki, name: &str, more: &[&str]) -> String {
        let crls = ["root.pem", "sub.pem"]
            .map(|name| fs::read_to_string(pki.crls.join(name)).unwrap())
            .concat();
        let all = pki.crls.join("all");
        fs::write(&all, crls).unwrap();
        Run::new("openssl")
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                "sslclient",
                "-crl_check_all",
            ])
            .args(more)
            .arg("-CRLfile")
            .arg(&all)
            .arg("-CAfile")
            .arg(&pki.root)
            .arg("-untrusted")
            .arg(&pki.sub)
            .arg(&pki.leaf(name).unwrap().cert)
            .output()
            .unwrap()
            .said()
    }

    #[test]
    fn openssl_finds_in_each_leaf_the_fault_it_is_named_after() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::issue(
            &folder.path().join("pki"),
            &KeyCache::in_folder(folder.path().join("keys")),
        )
        .unwrap();
        for (name, words) in [
            ("good", ": OK"),
            ("system", ": OK"),
            ("cn_only", ": OK"),
            ("wrong_fqdn", ": OK"),
            ("expired", "certificate has expired"),
            ("not_yet_valid", "certificate is not yet valid"),
            ("revoked", "certificate revoked"),
            ("self_signed", "self-signed certificate"),
            ("rogue", "unable to get local issuer certificate"),
            ("no_client_auth", "unsuitable certificate purpose"),
        ] {
            let said = verify(&pki, name, &[]);
            assert!(said.contains(words), "{name}: {said}");
        }
        let said = verify(&pki, "cn_only", &["-verify_hostname", SSP_FQDN]);
        assert!(said.contains(": OK"), "{said}");
        let said = verify(&pki, "wrong_fqdn", &["-verify_hostname", SSP_FQDN]);
        assert!(said.contains("hostname mismatch"), "{said}");
    }
}
