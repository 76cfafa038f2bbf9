//! Listings of folders: a thousand objects a page. Packs are many; from the second page on they are
//! listed by their first digit, all sixteen at once, if the first one shows that keys are sorted.

use std::ops::ControlFlow;

use holdfast_engine::storage::{Folder, ObjectInfo, ObjectName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::S3Storage;
use super::problem::Trouble;
use crate::s3::client::{Listed, ListedPage, S3Client, S3Error};

impl S3Storage {
    /// Calls `each` for every object of a folder.
    pub(super) async fn list_folder(
        &self,
        folder: Folder,
        each: &mut dyn FnMut(ObjectInfo),
    ) -> Result<(), Trouble> {
        let prefix = self.client.key(&format!("{}/", folder.name()));
        let mut tell = |page: ListedPage| {
            page.objects
                .iter()
                .filter_map(|object| self.object(folder, object))
                .for_each(&mut *each);
        };
        if folder != Folder::Packs {
            let (pages, listing) = listing(&self.client, prefix, None);
            return follow(pages, listing, &mut tell).await;
        }
        let mut first = ListedPage::default();
        self.client
            .list(&prefix, false, None, &mut |page| {
                first = page;
                ControlFlow::Break(())
            })
            .await?;
        let is_sorted = first.objects.is_sorted_by(|a, b| a.key < b.key);
        let last = first.objects.last().filter(|_| is_sorted).map(|last| last.key.clone());
        if first.is_last {
            tell(first);
            return Ok(());
        }
        // A page may be empty and not the last, and where keys come in no order the last of them
        // says nothing about what is still to come.
        let Some(last) = last else {
            let (pages, listing) = listing(&self.client, prefix, None);
            return follow(pages, listing, &mut tell).await;
        };
        tell(first);
        let (sender, pages) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for digit in "0123456789abcdef".chars() {
            let prefix = format!("{prefix}{digit}");
            // What begins with a smaller digit was all on the first page.
            let after = match last.starts_with(&prefix) {
                true => Some(last.clone()),
                false if prefix < last => continue,
                false => None,
            };
            let task = list_all(self.client.clone(), prefix, after, sender.clone());
            tasks.spawn_on(task, self.client.runtime());
        }
        drop(sender);
        follow(pages, tasks, &mut tell).await
    }

    /// What a listed object is to the engine; `None` if it is none of the folder's.
    fn object(&self, folder: Folder, listed: &Listed) -> Option<ObjectInfo> {
        let prefix = self.client.key("");
        let name = ObjectName::parse(listed.key.strip_prefix(&prefix)?)?;
        let parts = name.as_str().split('/').count();
        let is_of_folder = parts == if folder.is_nested() { 3 } else { 2 };
        // Packs are listed by hexadecimal digits.
        let is_hex = |name: &str| name.bytes().all(|c| c.is_ascii_hexdigit() || c == b'/');
        let below = name.as_str().strip_prefix("packs/");
        let is_object = is_of_folder && below.is_none_or(is_hex);
        is_object.then_some(ObjectInfo { name, size: listed.size, modified: listed.modified })
    }
}

type Pages = mpsc::UnboundedReceiver<ListedPage>;
type Listings = JoinSet<Result<(), S3Error>>;

fn listing(client: &S3Client, prefix: String, after: Option<String>) -> (Pages, Listings) {
    let (sender, pages) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn_on(list_all(client.clone(), prefix, after, sender), client.runtime());
    (pages, tasks)
}

async fn list_all(
    client: S3Client,
    prefix: String,
    after: Option<String>,
    pages: mpsc::UnboundedSender<ListedPage>,
) -> Result<(), S3Error> {
    let mut pass = |page| match pages.send(page) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    client.list(&prefix, false, after.as_deref(), &mut pass).await
}

/// Tells of all pages, then whether there were all.
async fn follow(
    mut pages: Pages,
    mut listings: Listings,
    tell: &mut dyn FnMut(ListedPage),
) -> Result<(), Trouble> {
    while let Some(page) = pages.recv().await {
        tell(page);
    }
    while let Some(done) = listings.join_next().await {
        match done {
            Ok(listed) => listed?,
            Err(error) => return Err(Trouble::stopped(format!("a listing was given up: {error}"))),
        }
    }
    Ok(())
}
