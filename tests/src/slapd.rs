//! The Spine Directory Service's stand-in: OpenLDAP's server with entries of the same kinds, in a namespace.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    command::Run,
    lab::{Background, Lab},
    netns::Host,
    pki::Identity,
    tools,
    wait::wait_for,
};

const PATIENCE: Duration = Duration::from_secs(15);
/// Who may change entries.
pub const ADMIN: &str = "cn=admin,o=nhs";
/// The password for that.
pub const PASSWORD: &str = "lab-secret";

/// The kinds of entries, with the attributes that are looked at. The numbers are of the arc for examples.
const SCHEMA: &str = r"
objectidentifier nhsLab 2.999.1
attributetype ( nhsLab:1.1 NAME 'nhsIDCode' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( nhsLab:1.2 NAME 'nhsAsClient' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( nhsLab:1.3 NAME 'nhsAsSvcIA' EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( nhsLab:1.4 NAME 'nhsMHSPartyKey' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( nhsLab:1.5 NAME 'nhsMhsFQDN' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( nhsLab:1.6 NAME 'nhsMhsSvcIA' EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( nhsLab:2.1 NAME 'nhsAs' SUP top STRUCTURAL MUST ( uniqueIdentifier $ nhsIDCode )
  MAY ( nhsAsClient $ nhsAsSvcIA $ nhsMHSPartyKey ) )
objectclass ( nhsLab:2.2 NAME 'nhsMhs' SUP top STRUCTURAL MUST uniqueIdentifier
  MAY ( nhsIDCode $ nhsMhsFQDN $ nhsMHSPartyKey $ nhsMhsSvcIA ) )
";

/// What the tree begins with.
const ROOT: &str = "dn: o=nhs\nchangetype: add\nobjectClass: organization\no: nhs\n\n\
                    dn: ou=Services,o=nhs\nchangetype: add\nobjectClass: organizationalUnit\nou: Services\n\n";

/// Whom the server lets ask.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// Everybody.
    Open,
    /// Whoever has a certificate under a CA, and says a password.
    Closed(&'a Path),
}

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub struct Slapd {
    process: Option<Background>,
    folder: PathBuf,
}

impl Slapd {
    /// Starts a server with the entries that one before it in this lab had, or with none.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(lab: &Lab, address: SocketAddr, identity: &Identity, access: Access<'_>) -> Result<Self> {
        let folder = lab.files().folder().join("slapd");
        let mut server = Self {
            process: None,
            folder,
        };
        let is_new = !server.folder.join("data").exists();
        fs::create_dir_all(server.folder.join("data"))?;
        fs::write(server.folder.join("nhs.schema"), SCHEMA)?;
        fs::write(
            server.folder.join("slapd.conf"),
            server.settings(identity, access)?,
        )?;
        let package = tools::directory("slapd")?;
        let urls = format!("ldaps://{address}/ {}", server.local());
        let run = Run::inside(
            &lab.network().namespace(Host::Edge),
            package.join("usr/sbin/slapd"),
        )
        .env("LD_LIBRARY_PATH", libraries(&package))
        // It stays in the foreground, and its log is the process's.
        .args(["-d", "0", "-h", &urls, "-f"])
        .arg(server.folder.join("slapd.conf"));
        let mut process = Background::start("slapd", &run, lab.files())?;
        let listening = wait_for("slapd to listen", PATIENCE, || {
            process.must_run()?;
            // The socket is there before anybody listens.
            Ok(UnixStream::connect(server.folder.join("ldapi")).ok())
        });
        listening.with_context(|| process.tail())?;
        server.process = Some(process);
        if is_new {
            server.change(ROOT)?;
        }
        Ok(server)
    }

    /// Changes entries, as LDIF says.
    ///
    /// # Errors
    /// The server refuses.
    pub fn change(&self, ldif: &str) -> Result<()> {
        let program = tools::directory("ldap-utils")?.join("usr/bin/ldapmodify");
        Run::new(program)
            .args(["-x", "-H", &self.local(), "-D", ADMIN, "-w", PASSWORD])
            .stdin(ldif)
            .success()
            .map(drop)
    }

    /// Adds systems, each of the organisation and the party, with the interactions.
    ///
    /// # Errors
    /// As [`Slapd::change`].
    pub fn add_systems(&self, asids: &[String], ods: &str, party: &str, interactions: &[&str]) -> Result<()> {
        let mut ldif = String::new();
        for asid in asids {
            write!(
                ldif,
                "dn: {}\nchangetype: add\nobjectClass: nhsAs\nuniqueIdentifier: {asid}\nnhsIDCode: {ods}\n\
                 nhsAsClient: {ods}\nnhsMHSPartyKey: {party}\n",
                dn(asid)
            )?;
            for interaction in interactions {
                writeln!(ldif, "nhsAsSvcIA: {interaction}")?;
            }
            ldif.push('\n');
        }
        self.change(&ldif)
    }

    /// Says which FQDN a party has.
    ///
    /// # Errors
    /// As [`Slapd::change`].
    pub fn add_party(&self, party: &str, fqdn: &str) -> Result<()> {
        self.change(&format!(
            "dn: {}\nchangetype: add\nobjectClass: nhsMhs\nuniqueIdentifier: mhs-{party}\nnhsMHSPartyKey: {party}\n\
             nhsMhsFQDN: {fqdn}\n",
            dn(&format!("mhs-{party}"))
        ))
    }

    /// Deletes systems.
    ///
    /// # Errors
    /// As [`Slapd::change`].
    pub fn delete(&self, asids: &[String]) -> Result<()> {
        let deletions = asids
            .iter()
            .map(|asid| format!("dn: {}\nchangetype: delete\n\n", dn(asid)));
        self.change(&deletions.collect::<String>())
    }

    /// Ends the server; what it holds stays for the next one.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(mut self) -> Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |process| process.stop(PATIENCE))
    }

    fn settings(&self, identity: &Identity, access: Access<'_>) -> Result<String> {
        let package = tools::directory("slapd")?;
        let (package, folder) = (package.display(), self.folder.display());
        let (cert, key) = (identity.cert.display(), identity.key.display());
        let access = match access {
            Access::Open => "TLSVerifyClient never".to_owned(),
            Access::Closed(roots) => format!(
                "TLSCACertificateFile {}\nTLSVerifyClient demand\nrequire bind authc",
                roots.display()
            ),
        };
        Ok(format!(
            "include {package}/etc/ldap/schema/core.schema\ninclude {package}/etc/ldap/schema/cosine.schema\n\
             include {folder}/nhs.schema\nmodulepath {package}/usr/lib/ldap\nmoduleload back_mdb\n\
             pidfile {folder}/pid\nTLSCertificateFile {cert}\nTLSCertificateKeyFile {key}\n{access}\n\
             sizelimit unlimited\ndatabase mdb\nsuffix \"o=nhs\"\nrootdn \"{ADMIN}\"\nrootpw {PASSWORD}\n\
             directory {folder}/data\nmaxsize 67108864\n"
        ))
    }

    /// Where changes are taken.
    fn local(&self) -> String {
        let path = self.folder.join("ldapi").display().to_string();
        format!("ldapi://{}", path.replace('/', "%2F"))
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = process.kill();
        }
        // The next one makes its own.
        let _ = fs::remove_file(self.folder.join("ldapi"));
    }
}

/// The name of an entry.
#[must_use]
pub fn dn(id: &str) -> String {
    format!("uniqueIdentifier={id},ou=Services,o=nhs")
}

fn libraries(package: &Path) -> PathBuf {
    // Its own library of plug-ins; all others are installed.
    let triplet = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    package.join(triplet)
}
