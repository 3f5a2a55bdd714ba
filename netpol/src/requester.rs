//! Who asks for a change.

/// A user as the API server knows it: what it is called, and the groups that it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requester {
    pub username: String,
    pub groups: Vec<String>,
}

impl Requester {
    /// The name, for people.
    pub fn shown(&self) -> &str {
        match self.username.as_str() {
            "" => "somebody without a name",
            name => name,
        }
    }
}

/// A service account, which is a user too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
}

/// Some users, named in any of three ways.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    pub users: &'a [String],
    pub groups: &'a [String],
    pub service_accounts: &'a [ServiceAccount],
}

impl ServiceAccount {
    /// The name that it has as a user.
    pub fn username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

impl Named<'_> {
    /// Whether the requester is one of them.
    pub fn includes(&self, requester: &Requester) -> bool {
        self.users.contains(&requester.username)
            || self.groups.iter().any(|group| requester.groups.contains(group))
            || self
                .service_accounts
                .iter()
                .any(|account| account.username() == requester.username)
    }
}

/// Whom to ask, for a refusal.
impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let users = self.users.iter().map(|name| format!("user {name}"));
        let groups = self.groups.iter().map(|name| format!("group {name}"));
        let accounts = self.service_accounts.iter();
        let accounts =
            accounts.map(|account| format!("service account {}/{}", account.namespace, account.name));
        let all: Vec<String> = users.chain(groups).chain(accounts).collect();
        if all.is_empty() {
            return f.write_str("nobody");
        }
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requester_is_known_by_name_by_group_or_as_a_service_account() {
        let text = |text: &str| vec![text.to_owned()];
        let (users, groups) = (text("alice"), text("platform"));
        let accounts = [ServiceAccount {
            namespace: "ci".to_owned(),
            name: "deployer".to_owned(),
        }];
        let named = Named {
            users: &users,
            groups: &groups,
            service_accounts: &accounts,
        };
        let requester = |username: &str, groups: Vec<String>| Requester {
            username: username.to_owned(),
            groups,
        };
        for known in [
            requester("alice", Vec::new()),
            requester("bob", text("platform")),
            requester("system:serviceaccount:ci:deployer", Vec::new()),
        ] {
            assert!(named.includes(&known), "{known:?}");
        }
        for stranger in [
            requester("platform", text("alice")),
            requester("system:serviceaccount:ci:deployer2", Vec::new()),
            requester("", Vec::new()),
        ] {
            assert!(!named.includes(&stranger), "{stranger:?}");
        }
        assert_eq!(
            named.to_string(),
            "user alice, group platform, service account ci/deployer"
        );
    }
}
