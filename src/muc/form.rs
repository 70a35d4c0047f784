//! Data forms (XEP-0004): reading what clients submit, leniently, and writing fields.

use std::collections::BTreeMap;

use minidom::Element;
use xmpp_parsers::data_forms::{Field, FieldType, Option_};

use super::error::Fault;
use super::xml::ns;

/// A submitted form: values by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Submitted {
    fields: BTreeMap<String, Vec<String>>,
}

impl Submitted {
    /// Reads a form that is not of another `FORM_TYPE` than the given one.
    pub(super) fn read(form: &Element, form_type: &str) -> Result<Self, Fault> {
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for field in form.children().filter(|child| child.is("field", ns::DATA_FORMS)) {
            let Some(var) = field.attr("var") else { continue };
            let values = field.children().filter(|child| child.is("value", ns::DATA_FORMS));
            fields.entry(var.to_owned()).or_default().extend(values.map(Element::text));
        }
        let submitted = Self { fields };
        match submitted.text("FORM_TYPE") {
            None => Ok(submitted),
            Some(found) if found == form_type => Ok(submitted),
            Some(_) => Err(Fault::bad_request("A form of another type is expected here.")),
        }
    }

    /// The first value of a field, `""` if it was submitted without one.
    pub(super) fn text(&self, var: &str) -> Option<&str> {
        self.fields.get(var).map(|values| values.first().map_or("", String::as_str))
    }

    /// All values of a field.
    pub(super) fn values(&self, var: &str) -> Option<&[String]> {
        self.fields.get(var).map(Vec::as_slice)
    }

    /// All lines of a field.
    pub(super) fn lines(&self, var: &str) -> Option<String> {
        self.fields.get(var).map(|values| values.join("\n"))
    }

    /// The fields that were submitted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// A boolean (XEP-0004 §3.3).
    pub(super) fn boolean(&self, var: &str) -> Result<Option<bool>, Fault> {
        match self.text(var) {
            None => Ok(None),
            Some("1" | "true") => Ok(Some(true)),
            Some("0" | "false") => Ok(Some(false)),
            Some(_) => Err(Fault::not_acceptable("A yes-or-no field holds something else.")),
        }
    }
}

/// The type of a form, if it is one (XEP-0004 §3.1).
pub(super) fn form_type(form: &Element) -> &str {
    form.attr("type").unwrap_or("")
}

/// A field with a label and one value.
pub(super) fn field(var: &str, type_: FieldType, label: &str, value: &str) -> Field {
    let mut field = Field::new(var, type_).with_value(value);
    if !label.is_empty() {
        field.label = Some(label.to_owned());
    }
    field
}

/// A yes-or-no field.
pub(super) fn yes_no(var: &str, label: &str, value: bool) -> Field {
    field(var, FieldType::Boolean, label, if value { "1" } else { "0" })
}

/// A choice of one; each option is a value with its label.
pub(super) fn choice(var: &str, label: &str, options: &[(&str, &str)], value: &str) -> Field {
    let mut field = field(var, FieldType::ListSingle, label, value);
    field.options = options.iter().map(|(value, label)| option(value, label)).collect();
    field
}

/// A choice of any; each option is a value with its label.
pub(super) fn choices<'a>(
    var: &str,
    label: &str,
    options: &[(&str, &str)],
    values: impl IntoIterator<Item = &'a str>,
) -> Field {
    let mut field = list(var, FieldType::ListMulti, label, values.into_iter().map(str::to_owned));
    field.options = options.iter().map(|(value, label)| option(value, label)).collect();
    field
}

/// A field with a label and any number of values.
pub(super) fn list(
    var: &str,
    type_: FieldType,
    label: &str,
    values: impl IntoIterator<Item = String>,
) -> Field {
    let mut field = Field::new(var, type_);
    field.label = Some(label.to_owned());
    field.values = values.into_iter().collect();
    field
}

fn option(value: &str, label: &str) -> Option_ {
    Option_ { label: Some(label.to_owned()), value: value.to_owned() }
}
