//! `[authz]`

use crate::config::{
    Authz, AuthzMode, ShadowCase,
    reader::{Absent, Example, Section},
    values::{self, Fault},
};

pub(super) fn read(mut section: Section<'_>) -> Option<Authz> {
    let words = &[("enforce", AuthzMode::Enforce), ("shadow", AuthzMode::Shadow)];
    let mode = section.or(
        "mode",
        AuthzMode::Enforce,
        values::choice(words),
        "refuse whom a check of permission refuses; let everybody go on, and [record it](shadow.md)",
    );
    let shadow: Vec<_> = section.sections("shadow").into_iter().map(case).collect();
    if mode == Some(AuthzMode::Shadow) {
        section.warning(Fault::new(
            "SHADOW: nobody is refused for want of permission (R1 to R5), it is only recorded",
            "write mode = \"enforce\" when the records say what they should",
        ));
    }
    section.finish();

    Some(Authz {
        mode: mode?,
        shadow: shadow.into_iter().collect::<Option<_>>()?,
    })
}

fn case(mut section: Section<'_>) -> Option<ShadowCase> {
    let example = Example("\"urn:nhs:names:services:nrl:DocumentReference.create\"");
    let interaction = section.required(
        "interaction",
        example,
        values::interaction(),
        "what is in shadow all the same, in either spelling of its ID",
    );
    let asid = section.optional(
        "asid",
        Absent("anybody's"),
        values::asid(),
        "of this system alone",
    );
    if let Some(interaction) = interaction {
        let whose = match asid {
            Some(Some(asid)) => format!("the ASID {asid} is not"),
            _ => "nobody is".to_owned(),
        };
        section.warning(Fault::new(
            format!("SHADOW: {whose} refused {interaction} for want of permission, it is only recorded"),
            "take the entry out when the records say what they should",
        ));
    }
    section.finish();

    Some(ShadowCase {
        interaction: interaction?,
        asid: asid?,
    })
}
