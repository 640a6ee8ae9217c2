//! Secrets from outside: a variable, a file that a variable names, or a flag; set but empty is a refusal to start.
//!
//! Left out: flags for the secret key, which every user of the machine could read in the list of processes.

use crate::failure::Failure;
use ringfort_storage_node::control::file;
use std::path::{Path, PathBuf};

/// The environment, handed in so that tests need not change the process's own.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Keys as given from outside.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct GivenKeys {
    /// The public half.
    pub(crate) access_key: String,
    /// The secret half.
    pub(crate) secret_key: String,
    /// Whether they were meant for Ringfort, not for AWS's tools in general.
    pub(crate) is_ours: bool,
}

/// The root key as the environment gives it, if it does.
pub(crate) fn root_keys(lookup: Lookup<'_>) -> Result<Option<GivenKeys>, Failure> {
    let ours = pair(lookup, "RINGFORT_ACCESS_KEY", "RINGFORT_SECRET_KEY")?;
    let given = match ours {
        Some((access_key, secret_key)) => GivenKeys {
            access_key,
            secret_key,
            is_ours: true,
        },
        // Temporary credentials end, and their requests carry a token that no key of ours has.
        None if lookup("AWS_SESSION_TOKEN").is_some() => return Ok(None),
        None => match pair(lookup, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")? {
            Some((access_key, secret_key)) => GivenKeys {
                access_key,
                secret_key,
                is_ours: false,
            },
            None => return Ok(None),
        },
    };
    check_access_key(&given.access_key)?;
    check_secret_key(&given.secret_key)?;
    Ok(Some(given))
}

fn pair(
    lookup: Lookup<'_>,
    access: &str,
    secret: &str,
) -> Result<Option<(String, String)>, Failure> {
    match (variable(lookup, access)?, variable(lookup, secret)?) {
        (Some(access), Some(secret)) => Ok(Some((access, secret))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Failure::usage(format!(
            "{access} is set, but {secret} is not: set both, or neither"
        ))),
        (None, Some(_)) => Err(Failure::usage(format!(
            "{secret} is set, but {access} is not: set both, or neither"
        ))),
    }
}

/// A variable, or the content of the file that `<name>_FILE` names.
pub(crate) fn variable(lookup: Lookup<'_>, name: &str) -> Result<Option<String>, Failure> {
    let from_file = format!("{name}_FILE");
    let value = match (lookup(name), lookup(&from_file)) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage(format!(
                "both {name} and {from_file} are set: set one of them"
            )));
        }
        (Some(value), None) => value.trim().to_owned(),
        (None, Some(path)) => return read_secret(&PathBuf::from(path)).map(Some),
        (None, None) => return Ok(None),
    };
    if value.is_empty() {
        return Err(Failure::usage(format!(
            "{name} is set but empty: give it a value, or unset it"
        )));
    }
    Ok(Some(value))
}

/// A secret from a file: its text without white space around it.
pub(crate) fn read_secret(path: &Path) -> Result<String, Failure> {
    let bytes = file::read(path)
        .map_err(Failure::usage)?
        .ok_or_else(|| Failure::usage(format!("there is no secret file {}", path.display())))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("the secret file {} is not UTF-8", path.display())))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::usage(format!(
            "the secret file {} is empty: put the secret into it",
            path.display()
        )));
    }
    Ok(text.to_owned())
}

fn check_access_key(key: &str) -> Result<(), Failure> {
    // `/` ends the access key in a credential scope.
    let is_good = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if (3..=128).contains(&key.len()) && key.bytes().all(is_good) {
        return Ok(());
    }
    Err(Failure::usage(
        "the access key must have 3 to 128 characters of A-Z, a-z, 0-9, `-`, `_` and `.`",
    ))
}

fn check_secret_key(key: &str) -> Result<(), Failure> {
    if (8..=128).contains(&key.len()) && key.bytes().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Failure::usage(
        "the secret key must have 8 to 128 printable ASCII characters without spaces",
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn keys(set: &[(&str, &str)]) -> Result<Option<GivenKeys>, Failure> {
        let set: BTreeMap<String, String> = set
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        root_keys(&|name| set.get(name).cloned())
    }

    fn why(set: &[(&str, &str)]) -> String {
        match keys(set) {
            Err(failure) => failure.message,
            Ok(_) => panic!("{set:?} was taken"),
        }
    }

    #[test]
    fn our_variables_come_before_those_of_aws() {
        let aws = [
            ("AWS_ACCESS_KEY_ID", "AKIDAWS"),
            ("AWS_SECRET_ACCESS_KEY", "secretaws"),
        ];
        let ours = [
            ("RINGFORT_ACCESS_KEY", "AKIDOURS"),
            ("RINGFORT_SECRET_KEY", "secretours"),
        ];
        assert_eq!(keys(&aws).unwrap().unwrap().access_key, "AKIDAWS");
        assert_eq!(
            keys(&[aws, ours].concat()).unwrap().unwrap().access_key,
            "AKIDOURS"
        );
        assert!(keys(&[]).unwrap().is_none());
        let temporary = [&aws[..], &[("AWS_SESSION_TOKEN", "x")]].concat();
        assert!(keys(&temporary).unwrap().is_none());
    }

    #[test]
    fn an_empty_half_or_odd_secret_is_a_refusal_that_names_it() {
        assert!(
            why(&[("RINGFORT_SECRET_KEY", "")]).contains("RINGFORT_SECRET_KEY is set but empty")
        );
        assert!(why(&[("RINGFORT_ACCESS_KEY", "abcd")]).contains("RINGFORT_SECRET_KEY is not"));
        assert!(why(&[("AWS_SECRET_ACCESS_KEY", "abcd")]).contains("AWS_ACCESS_KEY_ID is not"));
        let with = |access, secret| {
            why(&[
                ("RINGFORT_ACCESS_KEY", access),
                ("RINGFORT_SECRET_KEY", secret),
            ])
        };
        assert!(with("a/b", "longenough").contains("access key"));
        assert!(with("abc", "short").contains("secret key"));
        assert!(with("abc", "with a space").contains("secret key"));
        let both = [
            ("RINGFORT_ACCESS_KEY", "abc"),
            ("RINGFORT_ACCESS_KEY_FILE", "/x"),
        ];
        assert!(why(&both).contains("both"));
        assert!(why(&[("RINGFORT_ACCESS_KEY_FILE", "/nowhere/x")]).contains("no secret file"));
    }

    #[test]
    fn a_secret_file_is_read_without_its_line_end_and_must_not_be_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        file::write_durably(&path, b"hidden123\n", file::Secrecy::Secret).unwrap();
        assert_eq!(read_secret(&path).unwrap(), "hidden123");
        file::write_durably(&path, b" \n", file::Secrecy::Secret).unwrap();
        assert!(read_secret(&path).unwrap_err().message.contains("is empty"));
    }
}
