//! An event's attributes, from headers or from JSON, and where its data stands.

use std::borrow::Cow;
use std::collections::BTreeMap;

use firebackup_model::DocumentPath;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use super::EventError;
use super::data::{Content, Form};
use crate::lenient_json::{Members, any_base64};
use crate::limit::MAX_ATTRIBUTE;

/// Names of attributes that are looked at.
pub(super) mod name {
    pub(in super::super) const ID: &str = "id";
    pub(in super::super) const SOURCE: &str = "source";
    pub(in super::super) const SPEC_VERSION: &str = "specversion";
    pub(in super::super) const TYPE: &str = "type";
    pub(in super::super) const TIME: &str = "time";
    pub(in super::super) const SUBJECT: &str = "subject";
    pub(in super::super) const PROJECT: &str = "project";
    pub(in super::super) const DATABASE: &str = "database";
    pub(in super::super) const DOCUMENT: &str = "document";
    pub(in super::super) const CONTENT_TYPE: &str = "datacontenttype";

    pub(super) const ALL: [&str; 10] =
        [ID, SOURCE, SPEC_VERSION, TYPE, TIME, SUBJECT, PROJECT, DATABASE, DOCUMENT, CONTENT_TYPE];
}

/// The attributes that are looked at.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    values: BTreeMap<&'static str, String>,
    /// Whether they are percent-encoded, as headers are.
    is_encoded: bool,
}

impl Attributes {
    fn take(&mut self, name: &str, value: &str) -> Result<(), EventError> {
        let Some(name) = name::ALL.into_iter().find(|known| *known == name) else { return Ok(()) };
        if value.len() > MAX_ATTRIBUTE {
            return Err(EventError::TooLarge { part: name, bytes: value.len(), limit: MAX_ATTRIBUTE });
        }
        match self.values.insert(name, value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(EventError::wrong(name, "stands twice")),
        }
    }

    /// The value of an attribute; nothing where it is absent.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.values.get(name)?;
        let decoded = || percent_decode_str(value).decode_utf8().ok();
        Some(self.is_encoded.then(decoded).flatten().unwrap_or(Cow::Borrowed(value)))
    }

    /// The value of an attribute that every event has.
    pub(super) fn required(&self, name: &'static str) -> Result<Cow<'_, str>, EventError> {
        self.get(name).filter(|value| !value.is_empty()).ok_or(EventError::Missing(name))
    }

    /// The document that the attributes name.
    pub(super) fn document(&self) -> Result<DocumentPath, EventError> {
        let subject = || self.get(name::SUBJECT).and_then(|subject| Some(subject.strip_prefix(DOCUMENTS)?.to_owned()));
        let named = self.get(name::DOCUMENT).map(Cow::into_owned).or_else(subject);
        let named = named.ok_or(EventError::Missing(name::DOCUMENT))?;
        DocumentPath::new(named)
            .map_err(|source| EventError::caused(name::DOCUMENT, "is no path of a document", source))
    }

    /// That what the attributes say of the document, if anything, is `path`. Not every sender encodes what has a `%` in it.
    pub(super) fn agree_on(&self, path: &DocumentPath) -> Result<(), EventError> {
        for (name, prefix) in [(name::DOCUMENT, ""), (name::SUBJECT, DOCUMENTS)] {
            let said = [self.get(name), self.values.get(name).map(|raw| Cow::Borrowed(raw.as_str()))];
            let mut said = said.iter().flatten().peekable();
            if said.peek().is_some() && !said.any(|said| said.strip_prefix(prefix) == Some(path.as_str())) {
                return Err(EventError::wrong(name, "is another document than its data"));
            }
        }
        Ok(())
    }
}

const DOCUMENTS: &str = "documents/";
const CONTENT_TYPE_ATTRIBUTE: &str = "ce-datacontenttype";

/// An event taken apart.
pub(super) struct Envelope<'b> {
    pub(super) attributes: Attributes,
    pub(super) content: Content<'b>,
}

impl<'b> Envelope<'b> {
    /// Takes a request apart, in whichever mode it was sent. Headers are percent-encoded.
    pub(super) fn open<'h>(
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
        body: &'b [u8],
        is_encoded: bool,
    ) -> Result<Self, EventError> {
        let mut attributes = Attributes { is_encoded, ..Attributes::default() };
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        // Pub/Sub hands the attribute over as it is, beside a type of the body that it makes up
        let says_its_own = headers.iter().any(|(header, _)| header == CONTENT_TYPE_ATTRIBUTE);
        for (header, value) in &headers {
            let name = match header.as_str() {
                "content-type" => Some(name::CONTENT_TYPE).filter(|_| !says_its_own),
                header => header.strip_prefix("ce-"),
            };
            // others are read over, whatever their bytes are
            if let Some(name) = name.filter(|name| name::ALL.contains(name)) {
                let value = std::str::from_utf8(value);
                let value = value.map_err(|source| EventError::caused("headers", "are not UTF-8", source))?;
                attributes.take(name, value.trim())?;
            }
        }
        let content_type = attributes.get(name::CONTENT_TYPE).map(|content_type| Form::essence(&content_type));
        match content_type.as_deref() {
            None => Err(EventError::Missing(name::CONTENT_TYPE)),
            Some("application/cloudevents+json") => Self::structured(body),
            Some(content_type) => Ok(Self { content: Content::new(Form::of(content_type)?, body), attributes }),
        }
    }

    fn structured(body: &'b [u8]) -> Result<Self, EventError> {
        let Members(members) =
            serde_json::from_slice(body).map_err(|source| EventError::caused("body", "is no json object", source))?;
        let mut attributes = Attributes::default();
        let (mut data, mut encoded) = (None, None);
        for (name, value) in members {
            let twice = match name.as_str() {
                "data" => data.replace(value).is_some(),
                "data_base64" => encoded.replace(value).is_some(),
                known if name::ALL.contains(&known) => {
                    attributes.take(known, &text(value, "attributes")?)?;
                    false
                }
                _ => false,
            };
            if twice {
                return Err(EventError::wrong("data", "stands twice"));
            }
        }
        let form = match attributes.get(name::CONTENT_TYPE) {
            None => Form::Json,
            Some(content_type) => Form::of(&Form::essence(&content_type))?,
        };
        let content = match (form, data, encoded) {
            (_, Some(_), Some(_)) => return Err(EventError::wrong("data", "stands twice")),
            (form, None, Some(encoded)) => {
                let bytes = any_base64(&text(encoded, "data")?);
                let bytes = bytes.map_err(|source| EventError::caused("data", "is no base64", source))?;
                Content { form, bytes: Cow::Owned(bytes) }
            }
            (Form::Json, Some(data), None) => Content::new(Form::Json, data.get().as_bytes()),
            (Form::Protobuf, Some(_), None) => {
                return Err(EventError::wrong("data", "is json, and said to be protobuf"));
            }
            (_, None, None) => return Err(EventError::Missing("data")),
        };
        Ok(Self { attributes, content })
    }
}

fn text(json: &RawValue, part: &'static str) -> Result<String, EventError> {
    serde_json::from_str(json.get()).map_err(|source| EventError::caused(part, "must be text", source))
}
