//! What a variable of the configuration can hold, as far as it is written there: `set`, `map`, `geo`, `split_clients`.
//! Enough to know the upstreams of `proxy_pass http://$backend`; nothing is computed.

use std::collections::BTreeMap;

/// Most values kept per variable, and most variables.
const MOST: usize = 1024;
/// Words that stand in a `map` or `geo` block and give no value.
const SETTINGS: [&str; 6] = ["hostnames", "volatile", "include", "proxy", "ranges", "delete"];

/// Variables and their possible values.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    values: BTreeMap<String, Vec<String>>,
}

impl Variables {
    /// The variable that a block gives values to, if it is such a block.
    pub fn of_block(words: &[String]) -> Option<&str> {
        let name = words.first()?.as_str();
        let target = words.last().filter(|_| matches!(name, "map" | "geo" | "split_clients"))?;
        target.strip_prefix('$')
    }

    /// A line inside such a block: `KEY VALUE;`.
    pub fn entry(&mut self, variable: &str, words: &[String]) {
        if let [key, value] = words
            && !SETTINGS.contains(&key.as_str())
        {
            self.add(variable, value);
        }
    }

    /// `set $name value;`
    pub fn set(&mut self, arguments: &[String]) {
        if let [name, value] = arguments
            && let Some(name) = name.strip_prefix('$')
        {
            self.add(name, value);
        }
    }

    fn add(&mut self, name: &str, value: &str) {
        if self.values.len() >= MOST && !self.values.contains_key(name) {
            return;
        }
        let values = self.values.entry(name.to_owned()).or_default();
        if values.len() < MOST && !values.iter().any(|known| known == value) {
            values.push(value.to_owned());
        }
    }

    /// Every text that `text` can become, up to its URI. `None` if it depends on the request, or on more than one
    /// variable.
    pub fn expand(&self, text: &str) -> Option<Vec<String>> {
        let text = without_uri(text);
        let Some(at) = text.find('$') else { return Some(vec![text.to_owned()]) };
        let (before, rest) = text.split_at(at);
        let (name, after) = split_name(&rest[1..])?;
        let values = self.values.get(name).filter(|_| !after.contains('$'))?;
        if values.iter().any(|value| value.contains('$')) {
            return None;
        }
        Some(values.iter().map(|value| format!("{before}{value}{after}")).collect())
    }
}

/// `name` or `{name}`, and what follows.
fn split_name(text: &str) -> Option<(&str, &str)> {
    if let Some(inside) = text.strip_prefix('{') {
        return inside.split_once('}');
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The URI behind the authority does not change the address, whatever it is made of.
fn without_uri(text: &str) -> &str {
    let start = text.find("://").map_or(0, |at| at + 3);
    let ends = ["/", "?", "$request_uri", "$uri", "$is_args"];
    let end = ends.iter().filter_map(|end| text[start..].find(end)).min();
    end.map_or(text, |end| &text[..start + end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn values_come_from_set_and_map() {
        let mut variables = Variables::default();
        variables.set(&words("$app 10.0.0.1:80"));
        assert_eq!(Variables::of_block(&words("map $uri $pool")), Some("pool"));
        assert_eq!(Variables::of_block(&words("server")), None);
        variables.entry("pool", &words("default 10.0.0.2:80"));
        variables.entry("pool", &words("~^/a 10.0.0.3:80"));
        variables.entry("pool", &words("hostnames"));
        assert_eq!(
            variables.expand("http://$app/x").as_deref(),
            Some(&["http://10.0.0.1:80".to_owned()][..])
        );
        let both = variables.expand("http://${pool}$request_uri").expect("known");
        assert_eq!(both, ["http://10.0.0.2:80", "http://10.0.0.3:80"]);
        assert_eq!(variables.expand("http://$host/$app"), None);
        assert_eq!(variables.expand("$app$pool"), None);
        assert_eq!(variables.expand("10.0.0.4:80").map(|one| one.len()), Some(1));
    }
}
