//! `%h` and its like, and `${NAME}`, in values of `ssh_config`.

/// What the tokens stand for.
#[derive(Debug, Clone)]
pub(in super::super) struct Tokens<'a> {
    /// `%h`
    pub(in super::super) host: &'a str,
    /// `%n`, as typed
    pub(in super::super) original: &'a str,
    /// `%p`
    pub(in super::super) port: u16,
    /// `%r`
    pub(in super::super) user: &'a str,
    /// `%u`
    pub(in super::super) local_user: &'a str,
    /// `%d`
    pub(in super::super) home: &'a str,
    /// `%i`
    pub(in super::super) uid: u32,
    /// `%l`, and up to the first dot `%L`
    pub(in super::super) local_host: &'a str,
}

impl Tokens<'_> {
    /// `text` with its tokens replaced. Unknown tokens and variables are errors.
    pub(in super::super) fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c == '$' && chars.as_str().starts_with('{') {
                let rest = chars.as_str().get(1..).unwrap_or_default();
                let (name, rest) =
                    rest.split_once('}').ok_or_else(|| format!("{text}: ${{ is not closed"))?;
                out += &std::env::var(name).map_err(|_| format!("{text}: {name} is not set"))?;
                chars = rest.chars();
                continue;
            }
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('%') => out.push('%'),
                Some('h') => out += self.host,
                Some('n') => out += self.original,
                Some('p') => out += &self.port.to_string(),
                Some('r') => out += self.user,
                Some('u') => out += self.local_user,
                Some('d') => out += self.home,
                Some('i') => out += &self.uid.to_string(),
                Some('l') => out += self.local_host,
                Some('L') => out += self.local_host.split('.').next().unwrap_or_default(),
                Some(other) => return Err(format!("{text}: unknown token %{other}")),
                None => return Err(format!("{text}: a lone % at the end")),
            }
        }
        Ok(out)
    }
}
