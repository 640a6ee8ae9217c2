//! Where a setting comes from: a flag, then the environment (both through clap), then the TOML file of `--config`,
//! then what the data folder remembers from its first start, then the default.
//!
//! One struct a subcommand is all of these: its fields are optional, and layers of it are laid over each other. An
//! unknown key in a file is refused, for a setting that has no effect is worse than none.

use crate::failure::Failure;
use ringfort_storage_node::control::file;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Reads a settings file.
pub(crate) fn read_file<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let bytes = file::read(path)
        .map_err(Failure::usage)?
        .ok_or_else(|| Failure::usage(format!("there is no settings file {}", path.display())))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{} is not UTF-8", path.display())))?;
    parse(&text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))
}

/// Reads settings from TOML.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

/// Lays settings over each other: the first layer that says something wins, a list as a whole.
pub(crate) fn layered<T: Serialize + DeserializeOwned>(layers: &[&T]) -> Result<T, Failure> {
    let mut merged = serde_json::Map::new();
    for layer in layers.iter().rev() {
        let layer = serde_json::to_value(layer).map_err(Failure::failed)?;
        if let Value::Object(fields) = layer {
            for (name, value) in fields {
                let is_said = match &value {
                    Value::Null => false,
                    Value::Array(items) => !items.is_empty(),
                    _ => true,
                };
                if is_said {
                    merged.insert(name, value);
                }
            }
        }
    }
    serde_json::from_value(Value::Object(merged)).map_err(Failure::failed)
}

/// A span of time as it is written: `30s`, `500ms`, `1.5s`, `2m`, `12h`, `14d`; a bare number is seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span(pub Duration);

const NO_SPAN: &str = "a span is a number and ms, s, m, h or d: 500ms, 30s, 2m, 12h, 14d";

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit_ms = match &text[digits.len()..] {
            "ms" => 1.0,
            "" | "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return Err(NO_SPAN.to_owned()),
        };
        let number: f64 = digits.parse().map_err(|_| NO_SPAN.to_owned())?;
        // A year: nobody waits for longer, and arithmetic on it cannot overflow.
        if !(0.0..=366.0 * 86_400_000.0).contains(&(number * unit_ms)) {
            return Err("a span is 0 to 366 days".to_owned());
        }
        Ok(Self(Duration::from_secs_f64(number * unit_ms / 1_000.0)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Whole(u32),
            Number(f64),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Whole(seconds) => seconds.to_string(),
            Written::Number(seconds) => seconds.to_string(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq, Default)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
    struct Some3 {
        listen: Option<String>,
        drain_delay: Option<Span>,
        base_domain: Vec<String>,
    }

    fn some(listen: Option<&str>, base_domain: &[&str]) -> Some3 {
        Some3 {
            listen: listen.map(str::to_owned),
            drain_delay: None,
            base_domain: base_domain.iter().map(|d| (*d).to_owned()).collect(),
        }
    }

    #[test]
    fn the_first_layer_that_says_something_wins() {
        let flags = some(None, &["flag.example"]);
        let file = some(Some("file"), &["file.example", "two.example"]);
        let remembered = some(Some("remembered"), &[]);
        let merged = layered(&[&flags, &file, &remembered]).unwrap();
        assert_eq!(merged, some(Some("file"), &["flag.example"]));
        assert_eq!(layered(&[&some(None, &[])]).unwrap(), some(None, &[]));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let read: Some3 = parse("listen = 'a'\ndrain-delay = 2\n").unwrap();
        assert_eq!(read.drain_delay, Some(Span(Duration::from_secs(2))));
        let refusal = parse::<Some3>("lisen = 'a'").unwrap_err();
        assert!(refusal.contains("lisen"), "{refusal}");
    }

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        let ms = |text: &str| text.parse::<Span>().map(|span| span.0.as_millis());
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("1.5s"), Ok(1_500));
        assert_eq!(ms("2m"), Ok(120_000));
        assert_eq!(ms("3"), Ok(3_000));
        assert_eq!(ms("1h"), Ok(3_600_000));
        assert_eq!(ms("14d"), Ok(14 * 86_400_000));
        for bad in ["", "s", "-1s", "1w", "NaN", "inf", "1e9s", "367d", "ä"] {
            assert!(ms(bad).is_err(), "{bad}");
        }
    }
}
