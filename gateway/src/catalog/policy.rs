//! Who may do what: an access key's role, and the buckets it is good for.
//!
//! A bucket belongs to the account that made it. A key without a list of buckets is good for all of its account's; a
//! key with a list is good for exactly those, whoever owns them, for only an administrator can make such a list.
//! Leaves out bucket policies and ACLs.

use super::access_keys::AccessKey;
use super::buckets::Bucket;
use serde::{Deserialize, Serialize};

/// What a key may do with the buckets it is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    Admin,
    /// Read and write objects, make and remove buckets.
    ReadWrite,
    /// Read and list.
    ReadOnly,
}

impl Role {
    /// The role of this name: `admin`, `read-write` or `read-only`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Admin, Self::ReadWrite, Self::ReadOnly]
            .into_iter()
            .find(|role| role.name() == name)
    }

    /// The name in the admin API and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads or lists.
    Read,
    /// Changes objects or uploads.
    Write,
    /// Makes or removes the bucket itself.
    ManageBucket,
}

/// Whether the key may do this to the bucket.
#[must_use]
pub fn allow(key: &AccessKey, action: Action, bucket: &Bucket) -> bool {
    allows_action(key.role, action) && is_good_for(key, bucket.name.as_str(), &bucket.owner)
}

/// Whether the key may make a bucket of this name; it will belong to the key's account.
#[must_use]
pub fn allow_create(key: &AccessKey, name: &str) -> bool {
    allows_action(key.role, Action::ManageBucket) && is_good_for(key, name, &key.owner)
}

/// Whether ListBuckets shows the bucket to the key.
#[must_use]
pub fn shows(key: &AccessKey, bucket: &Bucket) -> bool {
    is_good_for(key, bucket.name.as_str(), &bucket.owner)
}

fn allows_action(role: Role, action: Action) -> bool {
    match (role, action) {
        (Role::Admin | Role::ReadWrite, Action::Read | Action::Write | Action::ManageBucket)
        | (Role::ReadOnly, Action::Read) => true,
        (Role::ReadOnly, Action::Write | Action::ManageBucket) => false,
    }
}

fn is_good_for(key: &AccessKey, bucket: &str, owner: &str) -> bool {
    match &key.buckets {
        None => key.owner == owner,
        Some(named) => named.iter().any(|name| name == bucket),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::coordinator::BucketRef;
    use crate::s3::names::BucketName;

    fn key(owner: &str, role: Role, buckets: Option<&[&str]>) -> AccessKey {
        AccessKey {
            id: "id".to_owned(),
            secret: "s".to_owned(),
            name: "n".to_owned(),
            owner: owner.to_owned(),
            role,
            buckets: buckets.map(|names| names.iter().map(ToString::to_string).collect()),
            created_ms: 0,
        }
    }

    fn bucket(name: &str, owner: &str) -> Bucket {
        Bucket {
            name: BucketName::parse(name).unwrap(),
            reference: BucketRef::SYSTEM,
            owner: owner.to_owned(),
            region: String::new(),
            created_ms: 0,
        }
    }

    #[test]
    fn a_key_is_good_for_its_accounts_buckets_only() {
        let mine = bucket("mine", "a");
        let theirs = bucket("theirs", "b");
        for role in [Role::Admin, Role::ReadWrite] {
            let key = key("a", role, None);
            for action in [Action::Read, Action::Write, Action::ManageBucket] {
                assert!(allow(&key, action, &mine));
                assert!(!allow(&key, action, &theirs));
            }
        }
    }

    #[test]
    fn a_list_names_exactly_the_buckets_a_key_is_good_for() {
        let key = key("a", Role::ReadWrite, Some(&["theirs"]));
        assert!(allow(&key, Action::Write, &bucket("theirs", "b")));
        assert!(!allow(&key, Action::Read, &bucket("mine", "a")));
        assert!(allow_create(&key, "theirs") && !allow_create(&key, "other"));
        assert!(shows(&key, &bucket("theirs", "b")) && !shows(&key, &bucket("mine", "a")));
    }

    #[test]
    fn a_read_only_key_changes_nothing() {
        let key = key("a", Role::ReadOnly, None);
        let mine = bucket("mine", "a");
        assert!(allow(&key, Action::Read, &mine));
        assert!(!allow(&key, Action::Write, &mine));
        assert!(!allow(&key, Action::ManageBucket, &mine) && !allow_create(&key, "new"));
    }

    #[test]
    fn a_role_has_one_name() {
        for role in [Role::Admin, Role::ReadWrite, Role::ReadOnly] {
            assert_eq!(Role::from_name(role.name()), Some(role));
        }
        assert_eq!(Role::from_name("root"), None);
    }
}
