//! Chromium, driven. One chromedriver serves all tests of this program, and ends with it; every
//! test has a browser of its own.

use std::io::{BufRead, BufReader};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;

use super::site::{Result, Site};

/// How long a page may take to show what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The screen of a test.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Screen {
    Desk,
    Phone,
}

/// An open page.
#[derive(Debug)]
pub(crate) struct Tab {
    client: Client,
    root: String,
}

/// Opens the console in a browser, signed in, and closes it whatever the test does.
pub(crate) fn browse(
    site: &Site,
    screen: Screen,
    test: impl AsyncFnOnce(&Tab) -> Result,
) -> Result {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let client = client(screen).await?;
        let root = site.console.root().to_owned();
        let tab = Tab { client: client.clone(), root };
        let result = AssertUnwindSafe(async {
            client.goto(&site.console.one_time_url()?).await?;
            tab.find("nav.rail").await?;
            test(&tab).await
        })
        .catch_unwind()
        .await;
        if !matches!(result, Ok(Ok(()))) {
            // What the page looked like helps to see why.
            let _ = tab.screenshot("failed").await;
        }
        let _ = client.close().await;
        match result {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Tab {
    /// Goes to a page of the console.
    pub(crate) async fn open(&self, path: &str) -> Result {
        Ok(self.client.goto(&format!("{}{path}", self.root)).await?)
    }

    /// Waits for an element that a CSS selector means.
    pub(crate) async fn find(&self, css: &str) -> Result<Element> {
        let wait = self.client.wait().at_most(PATIENCE);
        wait.for_element(Locator::Css(css)).await.map_err(|e| format!("{css}: {e}").into())
    }

    /// Waits until the page holds this text, and gives it.
    pub(crate) async fn see(&self, text: &str) -> Result {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            // The page may be going away right now.
            let body = async { self.client.find(Locator::Css("body")).await?.text().await }.await;
            match body {
                Ok(body) if body.contains(text) => return Ok(()),
                Ok(body) if std::time::Instant::now() > until => {
                    return Err(format!("\"{text}\" is not on the page:\n{body}").into());
                }
                Err(e) if std::time::Instant::now() > until => return Err(e.into()),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Clicks the button or link that is called so.
    pub(crate) async fn click(&self, name: &str) -> Result {
        let called = format!("normalize-space()=\"{name}\"");
        let path = format!(
            "//*[self::button or self::a or self::summary or self::label][{called}] \
             | //button[@aria-label=\"{name}\"] | //a[.//b[{called}]]"
        );
        let wait = self.client.wait().at_most(PATIENCE);
        let failed = |e: fantoccini::error::CmdError| format!("{name}: {e}");
        let found = wait.for_element(Locator::XPath(&path)).await.map_err(failed)?;
        // What sticks to the bottom must not lie over it.
        let to_middle = "arguments[0].scrollIntoView({ block: 'center' })";
        self.client
            .execute(to_middle, vec![serde_json::to_value(&found)?])
            .await
            .map_err(failed)?;
        Ok(found.click().await.map_err(failed)?)
    }

    /// Types into the field of this name, in place of what it holds.
    pub(crate) async fn fill(&self, field: &str, text: &str) -> Result {
        let field = self
            .find(&format!(
                "main [name=\"{field}\"], main [id=\"{field}\"], dialog[open] [name=\"{field}\"]"
            ))
            .await?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    /// Runs script in the page.
    pub(crate) async fn script(&self, code: &str) -> Result<serde_json::Value> {
        Ok(self.client.execute(code, Vec::new()).await?)
    }

    /// Runs script that calls its last argument with the answer.
    pub(crate) async fn wait_for_script(&self, code: &str) -> Result<serde_json::Value> {
        Ok(self.client.execute_async(code, Vec::new()).await?)
    }

    /// Waits until all that the page loads by itself is there.
    pub(crate) async fn settled(&self) -> Result {
        let code = "return document.querySelector('[data-load], [aria-busy=true]') === null";
        let until = std::time::Instant::now() + PATIENCE;
        while self.script(code).await? != true {
            if std::time::Instant::now() > until {
                return Err("a part of the page does not arrive".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// What the page looks like, as PNG.
    pub(crate) async fn picture(&self) -> Result<Vec<u8>> {
        Ok(self.client.screenshot().await?)
    }

    /// Saves what the page looks like under this name.
    pub(crate) async fn screenshot(&self, name: &str) -> Result {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(format!("{name}.png")), self.picture().await?)?)
    }

    /// Nothing sticks out to the right of the window.
    pub(crate) async fn fits(&self) -> Result {
        let code = "return [document.documentElement.scrollWidth, window.innerWidth]";
        let widths: (u64, u64) = serde_json::from_value(self.script(code).await?)?;
        if widths.0 > widths.1 {
            Err(format!("the page is {} wide in {}", widths.0, widths.1).into())
        } else {
            Ok(())
        }
    }
}

async fn client(screen: Screen) -> Result<Client> {
    let mut args = vec![
        "--headless=new",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
        // What is looked at is never half-way.
        "--force-prefers-reduced-motion",
    ];
    if is_root() {
        args.push("--no-sandbox");
    }
    let mut options = serde_json::json!({ "args": args });
    if let Screen::Phone = screen {
        options["mobileEmulation"] = serde_json::json!({
            "deviceMetrics": { "width": 360, "height": 740, "pixelRatio": 2.0, "touch": true }
        });
    }
    let capabilities = serde_json::json!({
        "browserName": "chrome",
        "goog:chromeOptions": options,
        // As somebody who has compared the fingerprint.
        "acceptInsecureCerts": true,
    });
    let serde_json::Value::Object(capabilities) = capabilities else { return Err("no map".into()) };
    let driver = driver()?;
    let mut builder = ClientBuilder::new(HttpConnector::new());
    Ok(builder.capabilities(capabilities).connect(driver).await?)
}

/// Chromium's own sandbox does not work for root.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// The address of chromedriver, started at first use. A shell waits beside it for the end of our
/// process and ends it then.
fn driver() -> Result<&'static str> {
    static DRIVER: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let started = DRIVER.get_or_init(|| start().map_err(|e| format!("chromedriver: {e}")));
    started.as_deref().map_err(|e| e.clone().into())
}

fn start() -> Result<String> {
    let mut shell = Command::new("sh")
        .args(["-c", "chromedriver --port=0 <&- & read -r end; kill $!"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = shell.stdout.take().ok_or("no output")?;
    // Kept open until our process ends.
    std::mem::forget(shell.stdin.take());
    let mut lines = BufReader::new(output).lines();
    let port = lines
        .by_ref()
        .map_while(std::result::Result::ok)
        .find_map(|line| {
            Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned())
        })
        .ok_or("it said no port; is it installed?")?;
    // What it says later goes nowhere, but must go.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(format!("http://127.0.0.1:{port}"))
}
