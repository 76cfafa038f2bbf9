//! The way that docs/console.md describes, walked in a browser: from nothing to a protected folder,
//! and back to a restored file. With UPDATE_DOCS=1 the pictures of that page are taken on the way.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use color_quant::NeuQuant;

use super::browser::{Screen, Tab, browse};
use super::site::{Result, Site};

/// What a picture may weigh, and all together; how wide one may be.
const ONE: u64 = 80_000;
const ALL: u64 = 500_000;
const WIDTH: u32 = 1280;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Takes a picture for the page, if it is to be made anew. Folders of the test are shown as those of
/// a usual machine.
async fn picture(tab: &Tab, site: &Site, name: &str) -> Result {
    if std::env::var_os("UPDATE_DOCS").is_none() {
        return Ok(());
    }
    tab.settled().await?;
    let scratch = site.home().display().to_string();
    let names = [
        (format!("{scratch}/home"), "/home/anna"),
        (format!("{scratch}/disk"), "/mnt/backup-disk"),
        (scratch.clone(), "/home/anna"),
    ];
    for (from, to) in names {
        tab.script(&format!(
            "const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); \
             const swap = (text) => text.replaceAll({from:?}, {to:?}); \
             for (let n = walk.nextNode(); n; n = walk.nextNode()) n.data = swap(n.data); \
             for (const field of document.querySelectorAll('input[type=text], input:not([type]), textarea')) \
               field.value = swap(field.value); \
             document.activeElement?.blur();"
        ))
        .await?;
    }
    // The same in pieces, above the folders of a snapshot.
    let scratch = site.home().file_name().ok_or("no name")?.to_string_lossy();
    tab.script(&format!(
        "for (const crumb of document.querySelectorAll('.crumbs a')) {{ \
           const name = crumb.textContent; \
           if (name === 'home') crumb.closest('li').remove(); \
           else if (name === 'tmp') crumb.textContent = 'home'; \
           else if (name === {scratch:?}) crumb.textContent = 'anna'; \
         }} \
         for (const said of document.querySelectorAll('.sub')) \
           said.textContent = said.textContent.replace(/From \\S+$/, 'From tern.');"
    ))
    .await?;
    let folder = docs().join("images");
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join(name), small(&tab.picture().await?)?)?)
}

/// The same picture with a palette, which is much smaller.
fn small(picture: &[u8]) -> Result<Vec<u8>> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(picture)).read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("too large")?];
    let info = reader.next_frame(&mut pixels)?;
    let step = info.color_type.samples();
    let rgba: Vec<u8> = pixels.chunks_exact(step).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    let colors = NeuQuant::new(1, 256, &rgba);
    let indexed: Vec<u8> = rgba.chunks_exact(4).map(|pixel| colors.index_of(pixel) as u8).collect();
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, info.width, info.height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(colors.color_map_rgb());
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header()?.write_image_data(&indexed)?;
    Ok(out)
}

/// Files of somebody, each as old as it would be.
fn files(folder: &Path) -> Result {
    let write = |name: &str, text: &str, days: u64| -> Result {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        std::fs::write(&path, text)?;
        let when = SystemTime::now() - Duration::from_secs(days * 86_400);
        Ok(std::fs::File::options().write(true).open(&path)?.set_modified(when)?)
    };
    let lines = |count: usize, line: &str| {
        (1..=count).map(|n| format!("{n:05} {line}\n")).collect::<String>()
    };
    write("Letters/landlord.txt", "Dear Mr Novak,\n\nthe roof is tight again. Thank you.\n", 3)?;
    write("Letters/grandmother.txt", &lines(40, "and then we went to the sea"), 40)?;
    write("Photos/list.txt", &lines(900, "IMG at the lighthouse"), 200)?;
    write("Taxes/2025.csv", &lines(2400, "receipt,station,12.40"), 20)?;
    write("Taxes/2024.csv", &lines(2100, "receipt,paper,3.80"), 400)?;
    let budget = "month,house,food,travel\n2026-09,1200,610,80\n2026-10,1200,580,340\n\
                  2026-11,1200,640,60\n";
    write("budget.csv", budget, 1)?;
    write("novel.txt", &lines(6000, "It was a bright cold day in April"), 2)
}

#[test]
fn the_way_from_nothing_to_a_restored_file() -> Result {
    let site = Site::new()?;
    let folder = site.home().join("home/Documents");
    files(&folder)?;
    let disk = site.home().join("disk");
    std::fs::create_dir(&disk)?;
    let back = site.home().join("home/Restored");
    browse(&site, Screen::Desk, async |tab| {
        tab.click("Light").await?;
        tab.find("html[data-theme=light]").await?;
        // 1. What should be safe, and where it goes.
        tab.fill("sources", &folder.to_string_lossy()).await?;
        picture(tab, &site, "1-start.png").await?;
        tab.open("/").await?;
        tab.fill("sources", &folder.to_string_lossy()).await?;
        tab.click("Directory").await?;
        tab.fill("title", "Backup disk").await?;
        tab.fill("location", &disk.to_string_lossy()).await?;
        tab.click("Test connection").await?;
        tab.see("Ready to be saved").await?;
        tab.click("Save storage").await?;
        // 2. The passphrase.
        tab.see("New passphrase").await?;
        tab.fill("passphrase", "correct horse").await?;
        tab.fill("again", "correct horse").await?;
        tab.script("document.getElementById('unlock').scrollIntoView({ block: 'center' })").await?;
        picture(tab, &site, "2-passphrase.png").await?;
        tab.open("/").await?;
        tab.fill("sources", &folder.to_string_lossy()).await?;
        tab.click("Backup disk").await?;
        tab.see("New passphrase").await?;
        tab.fill("passphrase", "correct horse").await?;
        tab.fill("again", "correct horse").await?;
        tab.click("Create repository").await?;
        tab.see("The repository was created").await?;
        // 3. The first run.
        tab.click("Back up now").await?;
        tab.see("First backup, run 1").await?;
        tab.see("7 new, 0 changed").await?;
        picture(tab, &site, "3-first-run.png").await?;
        // 4. From now on: is all well?
        tab.open("/").await?;
        tab.see("Your plan holds.").await?;
        // Totals come in once the storage was measured, and are there at once the next time.
        tab.see("in 1 storage, just now").await?;
        tab.open("/").await?;
        let figures = "return document.getElementById('totals').textContent";
        let figures = tab.script(figures).await?.to_string();
        for part in ["in the newest backup of 1 plan", "in 1 storage", " ×", "neverBackup disk"] {
            assert!(figures.contains(part), "{part}: {figures}");
        }
        picture(tab, &site, "4-home.png").await?;
        // 5. Finding what was lost.
        tab.open("/snapshots").await?;
        tab.see("plan:first-backup").await?;
        picture(tab, &site, "5-snapshots.png").await?;
        let snapshot = "return document.querySelector('main tbody a[href^=\"/snapshots/\"]').href";
        let snapshot = tab.script(snapshot).await?;
        let id = snapshot.as_str().and_then(|url| url.rsplit('/').next()).ok_or("no snapshot")?;
        let key = crate::stored::key(&folder);
        tab.open(&format!("/browse/backup-disk/{id}?path={key}")).await?;
        tab.click("budget.csv").await?;
        tab.see("month,house,food,travel").await?;
        picture(tab, &site, "6-browse.png").await?;
        // 7. Bringing it back.
        tab.open(&format!("/restore/backup-disk/{id}?path={key}/budget.csv")).await?;
        tab.fill("folder", &back.to_string_lossy()).await?;
        tab.click("Preview").await?;
        tab.see("nothing has been written yet").await?;
        tab.script("document.getElementById('preview').scrollIntoView({ block: 'end' })").await?;
        picture(tab, &site, "7-preview.png").await?;
        tab.open(&format!("/restore/backup-disk/{id}?path={key}/budget.csv")).await?;
        tab.fill("folder", &back.to_string_lossy()).await?;
        tab.click("Preview").await?;
        tab.click("Restore 1 file").await?;
        tab.see("read back and equal").await?;
        picture(tab, &site, "8-restored.png").await
    })?;
    let restored = std::fs::read(back.join("budget.csv"))?;
    assert_eq!(restored, std::fs::read(folder.join("budget.csv"))?);
    Ok(())
}

#[test]
fn the_pictures_of_the_page_are_there_and_small() -> Result {
    let page = std::fs::read_to_string(docs().join("console.md"))?;
    let named: Vec<_> =
        page.split("](images/").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!((6..=8).contains(&named.len()), "{named:?}");
    let mut all = 0;
    for name in &named {
        let path = docs().join("images").join(name);
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info()?;
        let info = reader.info();
        assert_eq!(info.color_type, png::ColorType::Indexed, "{name}");
        assert!(info.width <= WIDTH, "{name} is {} wide", info.width);
        let size = bytes.len() as u64;
        assert!(size < ONE, "{name} has {size} bytes");
        all += size;
    }
    assert!(all < ALL, "{all} bytes in all");
    let kept = std::fs::read_dir(docs().join("images"))?.count();
    assert_eq!(kept, named.len(), "a picture that the page does not show");
    Ok(())
}
