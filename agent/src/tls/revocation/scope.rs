//! Which of its issuer's certificates a CRL speaks for (RFC 5280 sections 5.2.5 and 6.3.3).

use std::fmt;

use x509_cert::{
    der::{Decode as _, Encode as _},
    ext::pkix::{
        CrlDistributionPoints, IssuingDistributionPoint,
        name::{DistributionPointName, GeneralName},
    },
};

/// A CRL's scope. A CRL without an issuing distribution point speaks for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// The names of its distribution point, sorted; none: it is not bound to one.
    points: Vec<Point>,
    /// The kind of certificates that it is bound to, if it is.
    holder: Option<Holder>,
}

/// Who holds a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tls) enum Holder {
    /// One who signs no others: the chain's first certificate.
    User,
    /// A CA: the chain's second.
    Authority,
}

impl Holder {
    /// How far its certificate stands from the chain's beginning.
    pub(in crate::tls) const fn depth(self) -> usize {
        match self {
            Self::User => 0,
            Self::Authority => 1,
        }
    }
}

/// A name of a distribution point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tls) enum Point {
    Uri(String),
    /// A directory name: its DER form, and how it reads.
    Directory(Vec<u8>, String),
}

impl Scope {
    /// The scope that an issuing distribution point describes, given in DER. Nothing in it may be overlooked: it would make
    /// a part pass for the whole.
    ///
    /// # Errors
    /// What makes it one that can't be used.
    pub(super) fn of(der: &[u8]) -> Result<Self, &'static str> {
        let Ok(point) = IssuingDistributionPoint::from_der(der) else {
            return Err("its issuing distribution point can't be read");
        };
        if point.indirect_crl {
            return Err("it is an indirect CRL, which lists other issuers' certificates");
        }
        if point.only_some_reasons.is_some() {
            return Err("it lists only some reasons of revocation");
        }
        let holder = match (
            point.only_contains_user_certs,
            point.only_contains_ca_certs,
            point.only_contains_attribute_certs,
        ) {
            (false, false, false) => None,
            (true, false, false) => Some(Holder::User),
            (false, true, false) => Some(Holder::Authority),
            _ => return Err("it lists no certificates that a client or its issuer could have"),
        };
        let points = match &point.distribution_point {
            None => Vec::new(),
            Some(name) => {
                let mut points = Point::all(name);
                if points.is_empty() {
                    return Err("its distribution point has neither a URI nor a directory name");
                }
                points.sort();
                points
            }
        };
        Ok(Self { points, holder })
    }

    /// Whether the CRL speaks for a certificate with these distribution points.
    pub(super) fn covers(&self, points: &[Point], holder: Holder) -> bool {
        self.holder.is_none_or(|bound| bound == holder)
            && (self.points.is_empty() || self.points.iter().any(|point| points.contains(point)))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.holder {
            None => "all",
            Some(Holder::User) => "users",
            Some(Holder::Authority) => "authorities",
        })?;
        let Some((first, others)) = self.points.split_first() else {
            return Ok(());
        };
        write!(f, " of {first}")?;
        others.iter().try_for_each(|point| write!(f, ", {point}"))
    }
}

impl Point {
    /// The distribution points that a certificate names. One whose CRL has another issuer, or lists only some reasons, is
    /// none of them: such a CRL is not accepted either.
    ///
    /// # Errors
    /// If the extension is not DER.
    pub(in crate::tls) fn of_certificate(der: &[u8]) -> Result<Vec<Self>, x509_cert::der::Error> {
        let CrlDistributionPoints(points) = CrlDistributionPoints::from_der(der)?;
        Ok(points
            .iter()
            .filter(|point| point.crl_issuer.is_none() && point.reasons.is_none())
            .filter_map(|point| point.distribution_point.as_ref())
            .flat_map(Self::all)
            .collect())
    }

    fn all(name: &DistributionPointName) -> Vec<Self> {
        let DistributionPointName::FullName(names) = name else {
            return Vec::new();
        };
        let point = |name: &GeneralName| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(Self::Uri(uri.to_string())),
            GeneralName::DirectoryName(name) => Some(Self::Directory(name.to_der().ok()?, name.to_string())),
            _ => None,
        };
        names.iter().filter_map(point).collect()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => f.write_str(uri),
            Self::Directory(_, name) => f.write_str(name),
        }
    }
}
