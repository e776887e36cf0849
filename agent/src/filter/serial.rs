//! How what the two halves share goes from one process to another: as the numbers of the maps.

use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

macro_rules! as_number {
    ($name:ident, $type:ty, $number:ty, $to:expr, $from:expr) => {
        pub(in crate::filter) mod $name {
            use super::*;

            pub(in crate::filter) fn serialize<S: Serializer>(
                value: &$type,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.serialize_u32(u32::from($to(*value)))
            }

            pub(in crate::filter) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                let number = <$number>::deserialize(deserializer)?;
                $from(number).ok_or_else(|| {
                    D::Error::custom(format!("no {} has the number {number}", stringify!($name)))
                })
            }
        }
    };
}

as_number!(
    reason,
    spinegate_common::Reason,
    u8,
    |reason| reason as u8,
    spinegate_common::Reason::from_number
);
as_number!(
    kind,
    spinegate_common::VerdictKind,
    u8,
    |kind| kind as u8,
    spinegate_common::VerdictKind::from_number
);
as_number!(
    origin,
    spinegate_common::VerdictOrigin,
    u8,
    |origin| origin as u8,
    spinegate_common::VerdictOrigin::from_number
);
as_number!(
    outcome,
    spinegate_common::Outcome,
    u32,
    |outcome: spinegate_common::Outcome| outcome.number(),
    spinegate_common::Outcome::from_number
);
