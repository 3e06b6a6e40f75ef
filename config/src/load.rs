//! Defaults < file < environment < flags, each key with the place its value came from.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use toml::{Spanned, de::DeTable, de::DeValue};

use crate::{
    Config, DEFAULT_FILE, Error, Kind, Origin, SETTINGS, Setting, check,
    declared::{self, DeclaredAccount},
};

/// A variable by its name.
type Lookup = dyn Fn(&str) -> Option<OsString>;

/// Where settings are looked for, besides the embedded default.
pub struct Sources {
    file: Option<PathBuf>,
    environment: Box<Lookup>,
    flags: Vec<(&'static Setting, Vec<String>, bool)>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Sources {
    /// The variables of this process, and the file that `HYTHE_CONFIG` names.
    pub fn process() -> Self {
        Self::environment(|name| std::env::var_os(name))
    }

    /// No variable at all: for a server inside a test.
    pub fn isolated() -> Self {
        Self::environment(|_| None)
    }

    /// Variables as `environment` gives them.
    pub fn environment(environment: impl Fn(&str) -> Option<OsString> + 'static) -> Self {
        let file = environment("HYTHE_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from);
        Self { file, environment: Box::new(environment), flags: Vec::new() }
    }

    /// Reads this file, whatever `HYTHE_CONFIG` says.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// A flag with its values, in the order in which they were given.
    #[must_use]
    pub fn flag(mut self, setting: &'static Setting, values: Vec<String>) -> Self {
        self.flags.push((setting, values, false));
        self
    }

    /// The flag that names the file of a secret.
    #[must_use]
    pub fn flag_file(mut self, setting: &'static Setting, path: String) -> Self {
        self.flags.push((setting, vec![path], true));
        self
    }

    /// [`Sources::flag`] by key; a key that is no setting is passed over.
    #[must_use]
    pub fn set(self, key: &str, value: impl Into<String>) -> Self {
        match Setting::of(key) {
            Some(setting) => self.flag(setting, vec![value.into()]),
            None => self,
        }
    }
}

/// A setting as it came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The setting.
    pub key: &'static str,
    /// Its value; several are joined by commas, a secret is `***`.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// The values of one setting, unchecked, and where they came from.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) values: Vec<String>,
    pub(crate) origin: Origin,
}

/// What one source says.
#[derive(Debug, Default)]
pub(crate) struct Layer(BTreeMap<&'static str, Given>);

impl Layer {
    pub(crate) fn get(&self, key: &str) -> Option<&Given> {
        self.0.get(key)
    }

    /// Adds a setting; `by_file` if the value is the path of a file that holds it.
    fn add(&mut self, setting: &'static Setting, by_file: bool, given: Given) -> Result<(), Error> {
        let given = if by_file { read_secret(setting, given)? } else { given };
        if let Some(other) = self.0.get(setting.key) {
            return Err(Error::Conflict {
                first: setting.key.to_owned(),
                first_origin: other.origin.clone(),
                second: if by_file { format!("{}_file", setting.key) } else { setting.key.to_owned() },
                second_origin: given.origin,
            });
        }
        self.0.insert(setting.key, given);
        Ok(())
    }
}

/// Lays the sources over one another and checks the result.
pub fn load(sources: &Sources) -> Result<Config, Error> {
    let (mut settled, _) = parse_file(Path::new("default.toml"), DEFAULT_FILE)?;
    for given in settled.0.values_mut() {
        given.origin = Origin::Default;
    }
    let (mut layers, mut accounts) = (Vec::new(), Vec::new());
    if let Some(path) = &sources.file {
        let (layer, declared) = parse_file(path, &read(path)?)?;
        layers.push(layer);
        accounts = declared;
    }
    layers.push(environment(&sources.environment)?);
    layers.push(flags(&sources.flags)?);
    for layer in layers {
        settled.0.extend(layer.0);
    }
    let effective = SETTINGS.iter().filter_map(|setting| {
        let given = settled.get(setting.key)?;
        let value = if setting.kind == Kind::Secret { "***".to_owned() } else { given.values.join(",") };
        Some(Effective { key: setting.key, value, origin: given.origin.clone() })
    });
    let names: Vec<_> = accounts.iter().map(|account| account.name.as_str()).collect();
    let declared = accounts.first().map(|first| Effective {
        key: declared::KEY,
        value: names.join(","),
        origin: first.origin.clone(),
    });
    check::check(&settled, effective.chain(declared).collect(), accounts)
}

#[expect(clippy::disallowed_methods, reason = "the config loader reads the files it is told to")]
fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

#[expect(clippy::disallowed_methods, reason = "the config loader reads the files it is told to")]
fn read_secret(setting: &'static Setting, given: Given) -> Result<Given, Error> {
    let path = given.values.first().cloned().unwrap_or_default();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Given { values: vec![text.trim_end_matches(['\r', '\n']).to_owned()], origin: given.origin }),
        Err(e) => Err(Error::Invalid {
            key: setting.key,
            origin: given.origin,
            rule: format!("cannot read {path}: {e}; name a file that holds the secret"),
        }),
    }
}

fn environment(lookup: &Lookup) -> Result<Layer, Error> {
    let mut layer = Layer::default();
    for setting in SETTINGS {
        let names = [(setting.variable(), false), (setting.variable() + "_FILE", true)];
        for (name, by_file) in names.into_iter().take(if setting.kind == Kind::Secret { 2 } else { 1 }) {
            let Some(value) = lookup(&name).filter(|v| !v.is_empty()) else { continue };
            let origin = Origin::Variable(name);
            let Ok(value) = value.into_string() else {
                return Err(Error::Invalid { key: setting.key, origin, rule: "expected UTF-8 text".to_owned() });
            };
            let values = match setting.kind {
                Kind::List => value.split(',').map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect(),
                Kind::Value | Kind::Switch | Kind::Secret => vec![value],
            };
            layer.add(setting, by_file, Given { values, origin })?;
        }
    }
    Ok(layer)
}

fn flags(given: &[(&'static Setting, Vec<String>, bool)]) -> Result<Layer, Error> {
    let mut layer = Layer::default();
    for (setting, values, by_file) in given {
        let origin = Origin::Flag(format!("--{}{}", setting.flag(), if *by_file { "-file" } else { "" }));
        layer.add(setting, *by_file, Given { values: values.clone(), origin })?;
    }
    Ok(layer)
}

fn parse_file(path: &Path, text: &str) -> Result<(Layer, Vec<DeclaredAccount>), Error> {
    let table = DeTable::parse(text).map_err(|e| Error::Syntax {
        path: path.to_owned(),
        line: line_of(text, e.span().map_or(0, |s| s.start)),
        message: e.message().replace('\n', " "),
    })?;
    let (mut layer, mut accounts) = (Layer::default(), Vec::new());
    for (name, value) in table.get_ref() {
        if name.get_ref() == declared::KEY {
            accounts = declared::read(path, text, line_of(text, name.span().start), value.get_ref())?;
        }
    }
    walk(&mut layer, path, text, "", table.get_ref())?;
    Ok((layer, accounts))
}

fn walk(layer: &mut Layer, path: &Path, text: &str, prefix: &str, table: &DeTable<'_>) -> Result<(), Error> {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref());
        if key == declared::KEY {
            continue;
        }
        let origin = Origin::File { path: path.to_owned(), line: line_of(text, name.span().start) };
        let by_file = key.strip_suffix("_file").and_then(Setting::of).filter(|s| s.kind == Kind::Secret);
        let setting = Setting::of(&key).or(by_file);
        match (setting, value.get_ref()) {
            (Some(setting), value) => {
                let values = texts(setting, value).map_err(|rule| Error::Invalid {
                    key: setting.key,
                    origin: origin.clone(),
                    rule,
                })?;
                layer.add(setting, by_file.is_some(), Given { values, origin })?;
            }
            (None, DeValue::Table(inner)) if SETTINGS.iter().any(|s| s.key.starts_with(&format!("{key}."))) => {
                walk(layer, path, text, &format!("{key}."), inner)?;
            }
            (None, _) => {
                let near = nearest(&key);
                return Err(Error::UnknownKey { origin, key, near });
            }
        }
    }
    Ok(())
}

fn texts(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value {
        DeValue::Array(array) if setting.kind == Kind::List => {
            array.iter().map(Spanned::get_ref).map(scalar).collect::<Option<_>>()
        }
        value => scalar(value).map(|text| vec![text]),
    }
    .ok_or_else(|| match setting.kind {
        Kind::List => "expected an array of strings".to_owned(),
        Kind::Value | Kind::Switch | Kind::Secret => format!("expected one value, found {}", value.type_str()),
    })
}

pub(crate) fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&b| b == b'\n').count() + 1
}

/// The setting that was probably meant, if one is near.
fn nearest(key: &str) -> Option<&'static str> {
    let scored = SETTINGS.iter().map(|s| (distance(key, s.key), s.key));
    scored.min().filter(|&(distance, _)| distance <= 3).map(|(_, key)| key)
}

/// How many letters must be put in, taken out or changed to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(other.bytes()) {
            let next = (*cell + 1).min(left + 1).min(diagonal + usize::from(a != b));
            diagonal = std::mem::replace(cell, next);
            left = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
