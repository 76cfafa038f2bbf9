//! Locations as the fields of a form: host, port, user and directory, or endpoint, bucket and
//! prefix, typed as they are, without percent signs for what is unusual.

use super::url::{RemotePath, S3Location, SftpLocation, name};
use crate::problem::Problem;
use crate::text::printable;

impl SftpLocation {
    /// From the fields of a form. User and port may be empty: `~/.ssh/config` or the defaults say
    /// them.
    pub fn from_fields(
        user: &str,
        host: &str,
        port: &str,
        directory: &str,
    ) -> Result<Self, Problem> {
        let directory = directory.trim();
        if !directory.starts_with('/') {
            let shown = printable(directory.as_bytes());
            let text = if shown.is_empty() {
                "the directory on the server is not given".to_owned()
            } else {
                format!("the directory {shown} is relative to wherever the server puts you")
            };
            return Err(Problem::usage(text)
                .hint("write its absolute path: /volume1/backups")
                .hint("or /~/backups for a folder in the home directory of the user"));
        }
        let path = Self::parse(directory.replace('%', "%25").as_bytes())?;
        if host.trim().is_empty() {
            return Err(Problem::usage("the server's name or address is not given")
                .hint("write a name such as nas.example.com, or an address"));
        }
        let user = Some(user.trim()).filter(|user| !user.is_empty());
        let port = match port.trim() {
            "" => None,
            text => Some(text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                Problem::usage(format!("{} is no port", printable(text.as_bytes())))
                    .hint("a port is a number from 1 to 65535; SSH uses 22")
            })?),
        };
        Ok(Self {
            user: user.map(|user| name(user.as_bytes(), "user")).transpose()?,
            host: Some(name(host.trim().trim_matches(['[', ']']).as_bytes(), "host")?),
            port,
            ..path
        })
    }

    /// The directory as it is typed into a form.
    pub fn directory(&self) -> String {
        let (start, path) = match &self.path {
            RemotePath::Absolute(path) => ("", path),
            RemotePath::Home(path) if path.is_empty() => ("/~", path),
            RemotePath::Home(path) => ("/~/", path),
        };
        let text = String::from_utf8_lossy(path);
        format!("{start}{text}{}", if self.follows { "/" } else { "" })
    }
}

impl S3Location {
    /// From the fields of a form. The prefix may be empty.
    pub fn from_fields(endpoint: &str, bucket: &str, prefix: &str) -> Result<Self, Problem> {
        let endpoint = endpoint.trim().trim_end_matches('/');
        if endpoint.starts_with("http://") {
            return Err(Problem::usage("the endpoint is written without http://")
                .hint("to connect without encryption, turn TLS off below"));
        }
        let endpoint = endpoint.strip_prefix("https://").unwrap_or(endpoint);
        let escape = |text: &str| text.trim().replace('%', "%25");
        let text = format!("{endpoint}/{}/{}", escape(bucket), escape(prefix));
        Self::parse(text.as_bytes())
    }

    /// The endpoint as it is typed into a form: with its port, if it has one of its own.
    pub fn endpoint_field(&self) -> String {
        let host = match self.endpoint.contains(':') {
            true => format!("[{}]", self.endpoint),
            false => self.endpoint.clone(),
        };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_comes_back_and_makes_the_same_location() -> Result<(), Problem> {
        for (fields, url) in [
            (["anna", "nas", "2222", "/a%b c"], "sftp://anna@nas:2222/a%25b%20c"),
            (["", "nas", "", "/"], "sftp://nas/"),
            (["a@b", "::1", "", "/~/x"], "sftp://a%40b@[::1]/~/x"),
            (["", "nas", "", "/~"], "sftp://nas/~"),
        ] {
            let [user, host, port, directory] = fields;
            let location = SftpLocation::from_fields(user, host, port, directory)?;
            assert_eq!(location.to_string(), url);
            assert_eq!(location.directory(), directory);
        }
        for bad in
            [["", "", "", "/x"], ["", "h", "0", "/x"], ["", "h", "", "x"], ["-o", "h", "", "/x"]]
        {
            let [user, host, port, directory] = bad;
            assert!(SftpLocation::from_fields(user, host, port, directory).is_err(), "{bad:?}");
        }
        let s3 = S3Location::from_fields(" https://s3.x.com:9000/ ", "b", "/p q/")?;
        assert_eq!(s3.to_string(), "s3://s3.x.com:9000/b/p%20q");
        assert_eq!((s3.endpoint_field(), s3.prefix), ("s3.x.com:9000".into(), "p q".into()));
        assert!(S3Location::from_fields("http://s3.x.com", "b", "").is_err());
        assert!(S3Location::from_fields("", "b", "").is_err());
        Ok(())
    }
}
