//! Sessions, fences and condemned lists: the small objects of the commit protocol (docs/format.md,
//! "Sessions and commit"); and settings (the same, "Parity").

use prost::Message;

/// `sessions/<id>/<n>`: somebody is writing.
#[derive(Clone, PartialEq, Message)]
pub struct Lease {
    /// Host name of the writer.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Process number there.
    #[prost(uint32, tag = "2")]
    pub process: u32,
    /// "backup", "gc", …
    #[prost(string, tag = "3")]
    pub verb: String,
    /// When it began, nanoseconds since the epoch by the writer's clock. For people only.
    #[prost(sint64, tag = "4")]
    pub started: i64,
    /// Condemned records that the writer has seen and heeds from now on.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub acknowledged: Vec<Vec<u8>>,
}

/// `sessions/<id>/end`, `sessions/<id>/forgotten`, `fences/<id>` and `fences/<id>.confirmed`.
#[derive(Clone, PartialEq, Message)]
pub struct Mark {
    /// Who wrote it.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Why, in words.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// `condemned/<id>`: what a gc will delete once every session then open is resolved.
#[derive(Clone, PartialEq, Message)]
pub struct Condemned {
    /// Pack names.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub packs: Vec<Vec<u8>>,
    /// Index segment names.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub segments: Vec<Vec<u8>>,
    /// The gc session that wrote it.
    #[prost(bytes = "vec", tag = "3")]
    pub session: Vec<u8>,
}

/// `settings/<id>`: something said of the repository after it was made.
#[derive(Clone, PartialEq, Message)]
pub struct Setting {
    /// When, nanoseconds since the epoch. Of two that say the same thing differently the later
    /// one counts.
    #[prost(sint64, tag = "1")]
    pub time: i64,
    /// Whether packs get parity.
    #[prost(bool, optional, tag = "2")]
    pub parity: Option<bool>,
}
