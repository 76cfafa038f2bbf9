//! Key slots of an open repository: list, add, remove.

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::envelope;
use crate::format::keyslot::{Cost, KeySlot, Label, PASSPHRASE, Secret};
use crate::hash::RecordId;
use crate::storage::{Folder, ObjectName, StorageErrorKind};
use crate::{Error, Result};

use super::{Repository, random};

/// A key slot as `key list` shows it.
#[derive(Debug, Clone)]
pub struct SlotInfo {
    /// Its id.
    pub id: RecordId,
    /// "passphrase" or "key file"; "unknown" if it cannot be read.
    pub kind: &'static str,
    /// What its maker said of it. `None`: the slot is of another repository (an interrupted
    /// `create` leaves such ones) or damaged, and opens nothing here.
    pub label: Option<Label>,
    /// Argon2id memory in KiB, passes and lanes, of a passphrase slot.
    pub cost: Option<Cost>,
}

impl Repository {
    /// Adds a slot that opens with `secret`; its id.
    pub fn add_slot(
        &self,
        secret: &Secret,
        cost: Cost,
        label: &str,
        host: &str,
        time: i64,
    ) -> Result<RecordId> {
        let id = RecordId::new(random()?);
        let name = ObjectName::key(id);
        let mut slot = KeySlot::wrap(&self.root, secret, cost, random()?, &self.id, id)
            .map_err(Error::Usage)?;
        let label = Label {
            text: label.into(),
            host: host.into(),
            created: time,
            body_hash: slot.body_hash().to_vec(),
        };
        slot.label = self.seal(ObjectKind::SlotLabel, &name, &label.encode_to_vec())?;
        match self.storage.put(&name, &slot.to_bytes()) {
            Ok(()) => Ok(id),
            // Nobody else has this name: the answer to a first try was lost.
            Err(e) if e.kind == StorageErrorKind::AlreadyExists => Ok(id),
            Err(e) => Err(e.into()),
        }
    }

    /// All slots, oldest first.
    pub fn slots(&self) -> Result<Vec<SlotInfo>> {
        let mut names = Vec::new();
        self.storage.list(Folder::Keys, &mut |info| names.push(info.name))?;
        let mut slots = Vec::new();
        for name in names {
            let Ok(id) = RecordId::from_hex(name.base()) else { continue };
            let slot = match self.storage.get(&name) {
                Ok(bytes) => KeySlot::parse(&bytes).ok(),
                // Removed since the listing.
                Err(e) if e.is_not_found() => continue,
                Err(e)
                    if matches!(
                        e.kind,
                        StorageErrorKind::Io | StorageErrorKind::PermissionDenied
                    ) =>
                {
                    None
                }
                Err(e) => return Err(e.into()),
            };
            // One that is damaged hides none of the others, and can be removed.
            let Some(slot) = slot else {
                slots.push(SlotInfo { id, kind: "unknown", label: None, cost: None });
                continue;
            };
            let kind = ObjectKind::SlotLabel;
            let label = envelope::open(&self.keys, &self.id, kind, name.as_str(), slot.label);
            let label = label.ok().and_then(|label| Label::decode(&label[..]).ok());
            let cost = (slot.kind == PASSPHRASE).then_some(Cost {
                memory_kib: slot.memory_kib,
                passes: slot.passes,
                lanes: slot.lanes,
            });
            let kind = if slot.kind == PASSPHRASE { "passphrase" } else { "key file" };
            slots.push(SlotInfo { id, kind, label, cost });
        }
        slots.sort_by_key(|slot| (slot.label.as_ref().map(|l| l.created), slot.id));
        Ok(slots)
    }

    /// The slot whose id starts with `prefix`.
    pub fn find_slot(&self, prefix: &str) -> Result<RecordId> {
        let slots = self.slots()?;
        let fitting: Vec<_> =
            slots.iter().filter(|slot| slot.id.to_string().starts_with(prefix)).collect();
        match fitting[..] {
            [slot] => Ok(slot.id),
            [] => Err(Error::NoSuchSlot { id: prefix.into() }),
            _ => Err(Error::Usage(format!("{prefix} fits several key slots"))),
        }
    }

    /// Removes a slot, unless it is the last one.
    pub fn remove_slot(&self, id: RecordId) -> Result<()> {
        let slots = self.slots()?;
        if !slots.iter().any(|slot| slot.id == id) {
            return Err(Error::NoSuchSlot { id: id.to_string() });
        }
        let others = slots.iter().filter(|slot| slot.id != id && slot.label.is_some());
        if others.count() == 0 {
            return Err(Error::LastSlot { id: id.short() });
        }
        let name = ObjectName::key(id);
        let slot = self.storage.get(&name);
        self.storage.delete(&name)?;
        // Somebody else may have removed the others at the same time: then nobody could open the
        // repository again. Whoever sees that puts his own back.
        let Ok(slot) = slot else { return Ok(()) };
        if self.slots()?.iter().any(|slot| slot.label.is_some()) {
            return Ok(());
        }
        self.storage.put(&name, &slot)?;
        Err(Error::LastSlot { id: id.short() })
    }
}
