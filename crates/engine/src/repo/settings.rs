//! What is said of a repository after it was made: its config is never changed, so these are
//! objects of their own, and the latest to say something is right (docs/format.md, "Parity").

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::session::Setting;
use crate::hash::RecordId;
use crate::storage::{Folder, ObjectName, StorageErrorKind};
use crate::{Error, Result};

use super::{Repository, random};

/// Settings in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    parity: Option<bool>,
    /// When the newest setting was written.
    newest: Option<i64>,
    /// Settings that cannot be read: what they say is not known.
    unreadable: u64,
}

impl Settings {
    /// What comes of these, whatever their order.
    pub(crate) fn of(mut read: Vec<(RecordId, Setting)>) -> Self {
        let mut settings = Self::default();
        read.sort_by_key(|(id, setting)| (setting.time, *id));
        for (_, setting) in read {
            settings.parity = setting.parity.or(settings.parity);
            settings.newest = Some(setting.time);
        }
        settings
    }

    /// Whether packs get parity.
    pub fn wants_parity(&self) -> bool {
        self.parity == Some(true)
    }

    /// Whether parity is certainly not wanted any more, so that what there is may go.
    pub fn renounces_parity(&self) -> bool {
        self.parity == Some(false) && self.unreadable == 0
    }
}

impl Repository {
    /// The settings in force. One that is damaged costs what it said and nothing else.
    pub fn settings(&self) -> Result<Settings> {
        let mut ids = Vec::new();
        self.storage.list(Folder::Settings, &mut |info| {
            ids.extend(RecordId::from_hex(info.name.base()));
        })?;
        let (mut read, mut unreadable) = (Vec::with_capacity(ids.len()), 0);
        let (folder, kind) = (Folder::Settings, ObjectKind::Setting);
        for (id, setting) in self.each_small(folder, kind, &ids, ObjectName::setting)? {
            match setting {
                Ok(setting) => read.push((id, setting)),
                Err(Error::Damaged { .. }) => unreadable += 1,
                Err(Error::Storage(e)) if e.kind == StorageErrorKind::Io => unreadable += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(Settings { unreadable, ..Settings::of(read) })
    }

    /// Says whether packs get parity from now on (`now` in nanoseconds since the epoch). Whether
    /// that is new.
    pub fn set_parity(&self, parity: bool, now: i64) -> Result<bool> {
        let settings = self.settings()?;
        if settings.parity.unwrap_or(false) == parity {
            return Ok(false);
        }
        // Whoever changes something has seen what is there, even if his clock is behind.
        let time = settings.newest.map_or(now, |newest| now.max(newest.saturating_add(1)));
        let setting = Setting { time, parity: Some(parity) };
        let name = ObjectName::setting(RecordId::new(random()?));
        match self.put_sealed(ObjectKind::Setting, &name, &setting.encode_to_vec()) {
            // The name is random: what is there is the first copy of this call.
            Err(Error::Storage(e)) if e.kind == StorageErrorKind::AlreadyExists => Ok(true),
            other => other.map(|()| true),
        }
    }
}
