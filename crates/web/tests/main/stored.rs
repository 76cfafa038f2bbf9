//! A repository with three snapshots of a small folder, under the name "attic".

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_app::ask::Nobody;
use holdfast_app::config::Config;
use holdfast_app::jobs::backup::{Settings, snapshot};
use holdfast_app::open::SourceContext;
use holdfast_app::paths::Paths;
use holdfast_app::{adopt, roots};
use holdfast_connectors::local::source::LocalSourceOptions;
use holdfast_engine::format::keyslot::Secret;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use zeroize::Zeroizing;

use super::site::{Result, Site};

/// The repository and what is backed up into it.
pub(crate) struct Stored {
    paths: Paths,
    repository: Repository,
    /// The folder.
    pub(crate) files: PathBuf,
}

/// The smallest PNG.
const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0,
    1, 0, 0, 0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, b'I', b'D', b'A', b'T',
    0x78, 0x9c, 0x63, 0xf8, 0xcf, 0xc0, 0xf0, 0x1f, 0, 5, 0, 1, 0xff, 0x89, 0x99, 0x3d, 0x1d, 0, 0,
    0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

impl Stored {
    pub(crate) fn new(site: &Site) -> Result<Self> {
        Self::with(site, |_| Ok(()))
    }

    /// With more in the folder.
    pub(crate) fn with(site: &Site, more: impl FnOnce(&Path) -> Result) -> Result<Self> {
        let paths = site.paths().clone();
        let files = site.home().join("home/anna");
        std::fs::create_dir_all(files.join("Letters"))?;
        let write = |name: &str, text: &[u8]| std::fs::write(files.join(name), text);
        write("budget.csv", b"month,group,plan\n2026-01,house,1200\n")?;
        write("Letters/one.txt", b"Dear one")?;
        write("Letters/two.txt", b"Dear two")?;
        write("photo.png", PNG)?;
        write("evil.html", b"<html><script>window.OWNED=1;document.title='OWNED'</script>Hello")?;
        write(
            "evil.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg' width='60' height='40' onload=\"document.title='OWNED'\">\
              <script>window.OWNED=1;top.document.title='OWNED'</script>\
              <rect width='60' height='40' fill='teal'/></svg>",
        )?;
        write("paper.pdf", b"%PDF-1.4\n%%EOF\n")?;
        more(&files)?;
        Config::edit(&paths.config, None, |config| {
            let store = site.home().join("store");
            config.set("attic", "location", &store.to_string_lossy())?;
            config.set("attic", "title", "Attic disk").map(drop)
        })?;
        let secret = Secret::Passphrase(Zeroizing::new(b"right one".to_vec()));
        let repository = adopt::create(&paths, "attic", secret)?;
        let stored = Self { paths, repository, files };
        stored.back_up(&["before-upgrade"], true)?;
        let csv = b"month,group,plan\n2026-01,house,1200\n2026-02,food,600\n";
        std::fs::write(stored.files.join("budget.csv"), csv)?;
        stored.back_up(&[], false)?;
        std::fs::write(stored.files.join("added.txt"), "new")?;
        stored.back_up(&[], false)?;
        Ok(stored)
    }

    /// Takes another snapshot.
    pub(crate) fn back_up(&self, tags: &[&str], pinned: bool) -> Result {
        let options = LocalSourceOptions::default();
        let access = self.paths.access(Arc::new(Nobody));
        let context = SourceContext { options: &options, repository: None, access: &access };
        let config = self.paths.load_config()?;
        let place = self.paths.resolve(self.files.as_os_str(), &config)?;
        let plan = roots::plan(&[place], "stdin", &context)?;
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let settings = Settings { tags, pinned, host: Some("tern".into()), ..Settings::default() };
        for origin in plan.origins {
            snapshot(&self.repository, origin, &settings, &NoMonitor, &Interrupt::new())?;
        }
        Ok(())
    }

    /// All snapshots, oldest first.
    pub(crate) fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        Ok(self.repository.snapshots()?)
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Result<SnapshotInfo> {
        self.snapshots()?.pop().ok_or_else(|| "no snapshot".into())
    }

    /// From now on nothing opens it but its passphrase.
    pub(crate) fn forget_key(&self) -> Result {
        Ok(Config::edit(&self.paths.config, None, |config| {
            config.unset("attic", "repository_key_file").map(drop)
        })?)
    }
}

/// A path as addresses of the console hold it.
pub(crate) fn key(path: &Path) -> String {
    let text = path.to_string_lossy();
    assert!(text.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-".contains(&c)), "{text}");
    text.into_owned()
}

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()).into())
}
