//! `spinegate registry import`: bundles and LDIF as `registry.toml`.

use std::{fs, path::Path};

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value};

use super::{ldap, records::Records, sds};
use crate::{config::Fqdns, nrl::InteractionId, registry::Systems};

/// No file that is imported is larger.
const MAX_BYTES: u64 = 1 << 30;

/// What a file has.
#[derive(Debug)]
pub struct Imported {
    /// The systems that can be taken over.
    pub systems: Systems,
    /// How many records can't.
    pub set_aside: usize,
    /// Why, for the first of them.
    pub examples: Vec<String>,
}

/// Why a file can't be imported.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ImportError(String);

/// Reads a bundle of Devices and Endpoints (JSON), or entries of `nhsAs` and `nhsMhs` (LDIF), or a folder of bundles.
///
/// # Errors
/// It is neither.
pub fn import(path: &Path, fqdns: Fqdns) -> Result<Imported, ImportError> {
    let fault = |fault: &dyn std::fmt::Display| ImportError(format!("{}: {fault}", path.display()));
    let mut records = Records::default();
    let metadata = fs::metadata(path).map_err(|error| fault(&error))?;
    if metadata.is_dir() {
        sds::read(path, MAX_BYTES as usize, &mut records).map_err(ImportError)?;
    } else {
        if metadata.len() > MAX_BYTES {
            return Err(fault(&format!("it has more than {MAX_BYTES} bytes")));
        }
        let content = fs::read(path).map_err(|error| fault(&error))?;
        let begin = content.iter().find(|byte| !byte.is_ascii_whitespace());
        if begin == Some(&b'{') {
            if sds::take_bundle(&content, &mut records)
                .map_err(|error| fault(&error))?
                .is_some()
            {
                records.set_aside("the bundle is one page of several: the others are missing");
            }
        } else {
            let text = std::str::from_utf8(&content).map_err(|error| fault(&error))?;
            for entry in ldap::read_ldif(text).map_err(|error| fault(&error))? {
                ldap::take(&mut records, &entry);
            }
        }
    }
    let (systems, aside) = records.pack(fqdns);
    Ok(Imported {
        systems,
        set_aside: aside.count,
        examples: aside.examples,
    })
}

impl Imported {
    /// The systems as `registry.toml`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut tables = ArrayOfTables::new();
        for system in self.systems.iter() {
            let mut table = Table::new();
            let mut set = |key: &str, value: Value| {
                table.insert(key, Item::Value(value));
            };
            set("asid", system.asid.as_str().into());
            set("ods", system.ods.as_str().into());
            let ids: Array = system.interactions.iter().map(InteractionId::as_str).collect();
            set("interactions", ids.into());
            if let Some(fqdn) = &system.fqdn {
                set("fqdn", fqdn.as_str().into());
            }
            tables.push(table);
        }
        let mut document = DocumentMut::new();
        document.insert("system", Item::ArrayOfTables(tables));
        document.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ldif_becomes_a_registry_file_that_is_read_back_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let ldif = place.path().join("sds.ldif");
        let text = "dn: uniqueIdentifier=200000000001,ou=Services,o=nhs\nuniqueIdentifier: 200000000001\nnhsIDCode: RR8\n\
                    nhsAsSvcIA: urn:nhs:names:services:nrl:DocumentReference.read\nnhsMHSPartyKey: RR8-1\n\n\
                    dn: uniqueIdentifier=x,ou=Services,o=nhs\nuniqueIdentifier: x\nnhsMHSPartyKey: RR8-1\nnhsMhsFQDN: a.nhs.uk\n";
        fs::write(&ldif, text).unwrap();
        let imported = import(&ldif, Fqdns::Require).unwrap();
        assert_eq!(
            (imported.systems.len(), imported.set_aside),
            (1, 0),
            "{imported:?}"
        );
        let file = place.path().join("registry.toml");
        fs::write(&file, imported.to_toml()).unwrap();
        let again = crate::registry::load(&file).unwrap();
        assert_eq!(
            again.iter().collect::<Vec<_>>(),
            imported.systems.iter().collect::<Vec<_>>()
        );
        fs::write(&ldif, "{}").unwrap();
        assert!(
            import(&ldif, Fqdns::Require)
                .unwrap_err()
                .to_string()
                .contains("sds.ldif: ")
        );
    }
}
