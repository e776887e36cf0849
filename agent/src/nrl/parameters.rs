//! The body of an update: a Parameters resource that sets a pointer's status.

use spinegate_common::Reason;

use super::{
    Format, Refusal,
    tree::{Document, Element, Fault},
};

/// Checks that a body is the only update that the NRL has: replace `DocumentReference.status` by
/// `entered-in-error` (NRL "Update" page).
///
/// The NRL looks at the first parameter only; a second one is refused here, as it can't be meant.
///
/// # Errors
/// [`Reason::BodyMalformed`] if it is not strict JSON or XML, [`Reason::BodyInvalid`] for every other body.
pub fn check_status_update(format: Format, body: &[u8]) -> Result<(), Refusal> {
    let document = Document::read(format, body)
        .map_err(|fault| Refusal::new(Reason::BodyMalformed, format!("Invalid Request Message: {fault}")))?;
    check(&document.root()).map_err(|why| Refusal::new(Reason::BodyInvalid, format!("Parameters: {why}")))
}

fn check(root: &Element<'_>) -> Result<(), String> {
    let text = |fault: Fault| fault.to_string();
    if root.required_string("resourceType").map_err(text)? != "Parameters" {
        return Err("resourceType must be Parameters".to_owned());
    }
    let parameters = root.objects("parameter").map_err(text)?;
    let [operation] = parameters.as_slice() else {
        return Err("parameter must have exactly one entry".to_owned());
    };
    if operation.required_string("name").map_err(text)? != "operation" {
        return Err("parameter[0].name must be operation".to_owned());
    }
    let (mut kind, mut path, mut value) = (None, None, None);
    for part in operation.objects("part").map_err(text)? {
        let (slot, element) = match part.required_string("name").map_err(text)? {
            "type" => (&mut kind, "valueCode"),
            "path" => (&mut path, "valueString"),
            "value" => (&mut value, "valueString"),
            other => {
                return Err(format!(
                    "parameter[0].part {other:?} is none of type, path and value"
                ));
            }
        };
        if slot
            .replace(part.required_string(element).map_err(text)?)
            .is_some()
        {
            return Err("a part of parameter[0] is there twice".to_owned());
        }
    }
    for (name, found, wanted) in [
        ("type", kind, "replace"),
        ("path", path, "DocumentReference.status"),
        ("value", value, "entered-in-error"),
    ] {
        if found != Some(wanted) {
            return Err(format!("the part {name} must be {wanted}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Format, check_status_update};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn update(kind: &str, path: &str, value: &str) -> Value {
        json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
            {"name": "type", "valueCode": kind},
            {"name": "path", "valueString": path},
            {"name": "value", "valueString": value},
        ]}]})
    }

    fn accepted(body: &Value) -> bool {
        check_status_update(Format::Json, body.to_string().as_bytes()).is_ok()
    }

    #[test]
    fn only_the_status_may_be_set_and_only_to_entered_in_error() {
        let good = update("replace", "DocumentReference.status", "entered-in-error");
        assert!(accepted(&good));
        assert!(!accepted(&update(
            "add",
            "DocumentReference.status",
            "entered-in-error"
        )));
        assert!(!accepted(&update(
            "replace",
            "DocumentReference.custodian",
            "entered-in-error"
        )));
        assert!(!accepted(&update(
            "replace",
            "DocumentReference.status",
            "current"
        )));
        let first = &good["parameter"][0];
        for bad in [
            json!({"resourceType": "DocumentReference", "parameter": [first]}),
            json!({"resourceType": "Parameters"}),
            json!({"resourceType": "Parameters", "parameter": first}),
            json!({"resourceType": "Parameters", "parameter": [first, first]}),
            json!({"resourceType": "Parameters", "parameter": [{"name": "other", "part": first["part"]}]}),
            json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [first["part"][0], first["part"][1]]}]}),
        ] {
            assert!(!accepted(&bad), "{bad}");
        }
        let mut twice = good.clone();
        let path = twice["parameter"][0]["part"][1].clone();
        twice["parameter"][0]["part"].as_array_mut().unwrap().push(path);
        assert!(!accepted(&twice));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(check_status_update(Format::Json, &bytes).is_err());
        }
    }
}
