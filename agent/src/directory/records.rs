//! What a directory says, record by record, and the systems that come of it.
//!
//! A system's record has its ASID, its organisation, its interactions and a party key; another has the FQDN of the party. What
//! has no sound record, or two that contradict each other, is set aside: it gives nobody access.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rustc_hash::FxBuildHasher;

use crate::{
    config::Fqdns,
    nrl::{Asid, Fqdn, InteractionId, OdsCode},
    registry::{Interactions, Packer, SetAt, Systems, TextAt, Texts},
};

/// Records set aside that are told one by one.
const TOLD: usize = 20;
/// A party key is a dozen characters.
const LONGEST_PARTY: usize = 128;

/// The sound records of a directory.
#[derive(Debug, Default)]
pub(crate) struct Records {
    systems: HashMap<u64, Accredited, FxBuildHasher>,
    fqdns: HashMap<Arc<str>, BTreeSet<Fqdn>>,
    parties: HashSet<Arc<str>>,
    sets: HashSet<Interactions>,
    aside: Aside,
}

/// What is known of a system (`nhsAs`, or a Device).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accredited {
    pub(crate) ods: OdsCode,
    pub(crate) interactions: Interactions,
    pub(crate) party: Option<Arc<str>>,
    /// Whether another record says something else of the organisation or the party: then it is nobody's.
    contradicted: bool,
}

/// What was not taken over, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) count: usize,
    /// The first of them.
    pub(crate) examples: Vec<String>,
}

/// A system's record as it was read.
pub(crate) struct SystemRecord<'r> {
    pub(crate) asid: &'r str,
    pub(crate) ods: &'r str,
    pub(crate) party: Option<&'r str>,
    pub(crate) interactions: &'r [String],
}

impl Aside {
    pub(crate) fn note(&mut self, why: impl Into<String>) {
        self.count += 1;
        if self.examples.len() < TOLD {
            self.examples.push(why.into());
        }
    }
}

impl Records {
    /// Takes a system's record.
    pub(crate) fn take_system(&mut self, record: &SystemRecord<'_>) {
        match self.parse(record) {
            Ok((asid, system)) => self.put(&asid, system),
            Err(fault) => self.set_aside(fault),
        }
    }

    /// Takes what is known of a system in place of what was known before.
    pub(crate) fn replace_system(&mut self, record: &SystemRecord<'_>) {
        self.remove_system(record.asid);
        self.take_system(record);
    }

    /// Forgets what was known of a system.
    pub(crate) fn remove_system(&mut self, asid: &str) {
        if let Ok(asid) = Asid::parse(asid) {
            self.systems.remove(&asid.number());
        }
    }

    /// Takes the FQDN of a party (`nhsMhs`, or an Endpoint).
    pub(crate) fn take_fqdn(&mut self, party: &str, fqdn: &str) {
        let party = match self.party(party) {
            Ok(party) => party,
            Err(fault) => return self.set_aside(fault),
        };
        match Fqdn::parse(fqdn) {
            Ok(fqdn) => {
                self.fqdns.entry(party).or_default().insert(fqdn);
            }
            Err(error) => self.set_aside(format!("party {party}: {error}")),
        }
    }

    /// Notes a record that can't be taken.
    pub(crate) fn set_aside(&mut self, why: impl Into<String>) {
        self.aside.note(why);
    }

    /// Puts a system in, as it was kept.
    pub(crate) fn put(&mut self, asid: &Asid, system: Accredited) {
        match self.systems.entry(asid.number()) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(system);
            }
            std::collections::hash_map::Entry::Occupied(mut place) => {
                let known = place.get_mut();
                if known.ods != system.ods || known.party != system.party {
                    known.contradicted = true;
                } else if known.interactions != system.interactions {
                    // What all records agree on.
                    known.interactions = known
                        .interactions
                        .intersection(&system.interactions)
                        .cloned()
                        .collect();
                }
            }
        }
    }

    /// Puts the FQDNs of a party in, as they were kept. Gives its key.
    pub(crate) fn put_fqdns(&mut self, party: &str, fqdns: BTreeSet<Fqdn>) -> Result<Arc<str>, String> {
        let party = self.party(party)?;
        if !fqdns.is_empty() {
            self.fqdns.insert(Arc::clone(&party), fqdns);
        }
        Ok(party)
    }

    /// The systems whose records don't contradict each other, in the order of their ASIDs.
    pub(crate) fn systems(&self) -> Vec<(Asid, &Accredited)> {
        let mut numbers: Vec<u64> = self.systems.keys().copied().collect();
        numbers.sort_unstable();
        numbers
            .into_iter()
            .filter_map(|number| Some((Asid::from_number(number)?, self.systems.get(&number)?)))
            .filter(|(_, system)| !system.contradicted)
            .collect()
    }

    /// The same, with what they share told by numbers.
    pub(crate) fn numbered(&self) -> Numbered<'_> {
        let mut parties: Vec<_> = self
            .fqdns
            .iter()
            .map(|(party, fqdns)| (&**party, Some(fqdns)))
            .collect();
        let mut of_party: HashMap<&str, usize> = parties.iter().map(|(party, _)| *party).zip(0..).collect();
        let mut sets = Vec::new();
        let mut of_set = HashMap::new();
        let mut systems = Vec::new();
        for (asid, system) in self.systems() {
            let set = *of_set.entry(&system.interactions).or_insert_with(|| {
                sets.push(&system.interactions);
                sets.len() - 1
            });
            let party = system.party.as_deref().map(|party| {
                *of_party.entry(party).or_insert_with(|| {
                    parties.push((party, None));
                    parties.len() - 1
                })
            });
            systems.push((asid, &system.ods, set, party));
        }
        Numbered {
            sets,
            parties,
            systems,
        }
    }

    /// How many records of systems there are.
    pub(crate) fn len(&self) -> usize {
        self.systems.len()
    }

    /// The systems that have all that they need, and what was set aside.
    pub(crate) fn pack(&self, rule: Fqdns) -> (Systems, Aside) {
        let mut aside = self.aside.clone();
        for (number, _) in self.systems.iter().filter(|(_, system)| system.contradicted) {
            let asid = Asid::from_number(*number)
                .map(|asid| asid.to_string())
                .unwrap_or_default();
            aside.note(format!("ASID {asid}: its records contradict each other"));
        }
        let Numbered {
            sets,
            parties,
            systems,
        } = self.numbered();
        let mut joiner = Joiner::new(rule);
        for set in sets {
            joiner.set(set.clone());
        }
        for (party, fqdns) in parties {
            joiner.party(party, fqdns.into_iter().flatten());
        }
        for (asid, ods, set, party) in systems {
            joiner.system(&asid, ods.clone(), set, party);
        }
        let (systems, left_out) = joiner.finish();
        for why in left_out.examples {
            aside.note(why);
            aside.count -= 1;
        }
        aside.count += left_out.count;
        (systems, aside)
    }

    fn parse(&mut self, record: &SystemRecord<'_>) -> Result<(Asid, Accredited), String> {
        let asid = Asid::parse(record.asid).map_err(|error| error.to_string())?;
        let of = |fault: String| format!("ASID {asid}: {fault}");
        let ods = OdsCode::parse(record.ods).map_err(|error| of(error.to_string()))?;
        let party = record
            .party
            .map(|party| self.party(party))
            .transpose()
            .map_err(of)?;
        let mut ids = Vec::new();
        for id in record.interactions {
            match InteractionId::parse(id) {
                Ok(id) => ids.push(id),
                // One that can't be read is one less, and takes none of the others away.
                Err(error) => self.set_aside(of(error.to_string())),
            }
        }
        let interactions = self.share(ids.into_iter().collect());
        if interactions.is_empty() {
            return Err(of("no interactions are given".to_owned()));
        }
        Ok((asid, Accredited::new(ods, interactions, party)))
    }

    fn share(&mut self, set: Interactions) -> Interactions {
        if let Some(shared) = self.sets.get(&set) {
            return shared.clone();
        }
        self.sets.insert(set.clone());
        set
    }

    fn party(&mut self, party: &str) -> Result<Arc<str>, String> {
        if let Some(shared) = self.parties.get(party) {
            return Ok(Arc::clone(shared));
        }
        let sound = !party.is_empty()
            && party.len() <= LONGEST_PARTY
            && party
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        if !sound {
            return Err(format!("{party:?} is no party key"));
        }
        let shared: Arc<str> = party.into();
        self.parties.insert(Arc::clone(&shared));
        Ok(shared)
    }
}

impl Accredited {
    pub(crate) const fn new(ods: OdsCode, interactions: Interactions, party: Option<Arc<str>>) -> Self {
        Self {
            ods,
            interactions,
            party,
            contradicted: false,
        }
    }
}

/// Records with what many of them share told by numbers, as a file has them.
pub(crate) struct Numbered<'r> {
    /// Sets of interactions.
    pub(crate) sets: Vec<&'r Interactions>,
    /// Party keys, each with its FQDNs if it has any.
    pub(crate) parties: Vec<(&'r str, Option<&'r BTreeSet<Fqdn>>)>,
    /// In the order of their ASIDs: the organisation, the number of the set and that of the party.
    pub(crate) systems: Vec<(Asid, &'r OdsCode, usize, Option<usize>)>,
}

/// Joins systems with their parties' FQDNs, and packs them. Sets and parties come before the systems, which tell them by
/// their numbers.
pub(crate) struct Joiner {
    rule: Fqdns,
    sets: Vec<SetAt>,
    parties: Vec<Names>,
    /// Their keys.
    keys: Texts,
    packer: Packer,
    aside: Aside,
}

/// The FQDNs of a party.
#[derive(Clone, Copy)]
struct Names {
    key: TextAt,
    /// The first of them.
    first: Option<TextAt>,
    are_several: bool,
}

impl Joiner {
    pub(crate) fn new(rule: Fqdns) -> Self {
        Self {
            rule,
            sets: Vec::new(),
            parties: Vec::new(),
            keys: Texts::default(),
            packer: Packer::default(),
            aside: Aside::default(),
        }
    }

    pub(crate) fn set(&mut self, set: Interactions) {
        self.sets.push(self.packer.interactions(set));
    }

    pub(crate) fn party<'f>(&mut self, key: &str, fqdns: impl IntoIterator<Item = &'f Fqdn>) {
        if self.rule == Fqdns::Ignore {
            return;
        }
        let mut fqdns = fqdns.into_iter();
        self.parties.push(Names {
            key: self.keys.push(key),
            first: fqdns.next().map(|fqdn| self.packer.fqdn(fqdn)),
            are_several: fqdns.next().is_some(),
        });
    }

    /// A set or a party that has not come is nobody's: the system is set aside.
    pub(crate) fn system(&mut self, asid: &Asid, ods: OdsCode, set: usize, party: Option<usize>) {
        let joined = self.fqdn(party).and_then(|fqdn| match self.sets.get(set) {
            Some(set) => Ok((*set, fqdn)),
            None => Err("its interactions are missing".to_owned()),
        });
        match joined {
            Ok((set, fqdn)) => self.packer.push_packed(asid, ods, set, fqdn),
            Err(why) => self.aside.note(format!("ASID {asid}: {why}")),
        }
    }

    fn fqdn(&self, party: Option<usize>) -> Result<Option<TextAt>, String> {
        if self.rule == Fqdns::Ignore {
            return Ok(None);
        }
        let number = party.ok_or("it has no party key, so no FQDN is known")?;
        let names = self.parties.get(number).ok_or("its party is missing")?;
        let key = || self.keys.get(names.key).unwrap_or_default();
        match names.first {
            Some(fqdn) if !names.are_several => Ok(Some(fqdn)),
            Some(_) => Err(format!("its party {} has several FQDNs", key())),
            None => Err(format!("its party {} has no FQDN", key())),
        }
    }

    pub(crate) fn finish(self) -> (Systems, Aside) {
        (self.packer.finish(), self.aside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(records: &mut Records, asid: &str, ods: &str, party: &str, ids: &[&str]) {
        let interactions: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        records.take_system(&SystemRecord {
            asid,
            ods,
            party: Some(party),
            interactions: &interactions,
        });
    }

    fn asids(systems: &Systems) -> Vec<String> {
        systems.iter().map(|system| system.asid.to_string()).collect()
    }

    #[test]
    fn a_system_has_the_one_fqdn_of_its_party_or_is_set_aside() {
        let mut records = Records::default();
        for (asid, party) in [
            ("200000000001", "one"),
            ("200000000002", "two"),
            ("200000000003", "none"),
            ("200000000004", "one"),
        ] {
            take(&mut records, asid, "RR8", party, &["urn:a"]);
        }
        records.take_fqdn("one", "A.nhs.uk");
        records.take_fqdn("one", "a.nhs.uk");
        records.take_fqdn("two", "a.nhs.uk");
        records.take_fqdn("two", "b.nhs.uk");
        let (systems, aside) = records.pack(Fqdns::Require);
        assert_eq!(asids(&systems), ["200000000001", "200000000004"]);
        let one = systems.get(&Asid::parse("200000000001").unwrap()).unwrap();
        assert_eq!(one.fqdn, Some(Fqdn::parse("a.nhs.uk").unwrap()));
        assert_eq!(aside.count, 2, "{aside:?}");
        let (systems, aside) = records.pack(Fqdns::Ignore);
        assert_eq!((systems.len(), aside.count), (4, 0));
        assert!(systems.iter().all(|system| system.fqdn.is_none()));
    }

    #[test]
    fn records_that_contradict_each_other_give_nobody_access() {
        let mut records = Records::default();
        take(&mut records, "200000000001", "RR8", "p", &["urn:a", "urn:b"]);
        take(&mut records, "200000000001", "RGD", "p", &["urn:a"]);
        take(&mut records, "200000000002", "RR8", "p", &["urn:a", "urn:b"]);
        take(&mut records, "200000000002", "RR8", "p", &["urn:b", "urn:c"]);
        let (systems, aside) = records.pack(Fqdns::Ignore);
        assert_eq!(asids(&systems), ["200000000002"]);
        let agreed = systems.iter().next().unwrap().interactions;
        assert_eq!(
            agreed.iter().map(InteractionId::as_str).collect::<Vec<_>>(),
            ["urn:b"]
        );
        assert_eq!(aside.count, 1);
        let ids = ["urn:z".to_owned()];
        records.replace_system(&SystemRecord {
            asid: "200000000001",
            ods: "RGD",
            party: None,
            interactions: &ids,
        });
        assert_eq!(records.pack(Fqdns::Ignore).0.len(), 2);
    }

    #[test]
    fn what_is_malformed_is_set_aside_and_counted_but_not_told_without_end() {
        let mut records = Records::default();
        for (asid, ods, party, id) in [
            ("2", "RR8", "p", "urn:a"),
            ("200000000001", "R-8", "p", "urn:a"),
            ("200000000001", "RR8", "p q", "urn:a"),
            ("200000000001", "RR8", "p", "read"),
        ] {
            take(&mut records, asid, ods, party, &[id]);
        }
        take(&mut records, "200000000001", "RR8", "p", &[]);
        records.take_fqdn("p", "localhost");
        // The interaction, and the system that has no other.
        assert_eq!(records.pack(Fqdns::Ignore).1.count, 7);
        (0..100).for_each(|_| records.set_aside("x"));
        let aside = records.pack(Fqdns::Ignore).1;
        assert_eq!((aside.count, aside.examples.len()), (107, TOLD));
        let mut records = Records::default();
        take(&mut records, "200000000001", "RR8", "p", &["read", "urn:a"]);
        let (systems, aside) = records.pack(Fqdns::Ignore);
        assert_eq!((systems.len(), aside.count), (1, 1));
        assert_eq!(systems.iter().next().unwrap().interactions.len(), 1);
    }
}
