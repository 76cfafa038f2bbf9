//! What stands at a storage that was just saved: nothing yet (a repository is made), a repository
//! (it is opened once with its passphrase), or something else. Either way the service gets a key
//! file of its own; the passphrase is not kept.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use holdfast_app::adopt::{self, Found};
use holdfast_app::text::shell_word;
use holdfast_app::{Class, Problem, catalogue, kit as recovery, secrets};
use zeroize::Zeroizing;

use crate::failure::{Failure, Note};
use crate::posted::Posted;
use crate::state::State;
use crate::view::{Frame, Nav, View, html};

/// What the page offers.
#[derive(Debug)]
enum Offer {
    /// To make a repository.
    Create,
    /// To open the one that is there.
    Open,
    /// It is open already.
    Done,
    /// It can be a source, and nothing else.
    Source,
    /// It cannot be reached.
    Problem(Note),
}

#[derive(Template)]
#[template(path = "ready.html")]
struct Page {
    frame: Frame,
    name: String,
    title: String,
    offer: Offer,
}

#[derive(Template)]
#[template(path = "kit.html")]
struct Kit {
    text: Zeroizing<String>,
}

#[derive(Template)]
#[template(path = "repository-made.html")]
struct Made {
    name: String,
    created: bool,
    id: String,
}

#[derive(Template)]
#[template(path = "ready-part.html")]
struct Part {
    frame: Frame,
    name: String,
    title: String,
    offer: Offer,
}

/// The offer alone, as a part of the first start.
pub(crate) async fn part(view: &View, name: String) -> Result<Response, Failure> {
    let (offer, name, title) = offer(view, name).await?;
    Ok(html(&Part { frame: view.frame("", Nav::None, ""), name, title, offer }))
}

/// `GET /storages/{name}/ready`
pub(super) async fn show(view: View, Path(name): Path<String>) -> Result<Response, Failure> {
    let line = format!("holdfast at @{} create", shell_word(&name));
    let (offer, name, title) = offer(&view, name).await?;
    let frame = view.frame(&title, Nav::Storages, &line);
    Ok(html(&Page { frame, name, title, offer }))
}

/// What can be done there, with the storage's name and title.
async fn offer(view: &View, name: String) -> Result<(Offer, String, String), Failure> {
    view.blocking(move |state| {
        let config = state.paths.load_config()?;
        config.expect(&name)?;
        let title = config.title_of(&name).to_owned();
        let offer = match adopt::look(&state.paths, &name) {
            Ok(Found::Vacant) => Offer::Create,
            Ok(Found::Locked) => Offer::Open,
            Ok(Found::Open(_)) => Offer::Done,
            Err(problem) if problem.class == Class::NotARepository => Offer::Source,
            Err(problem) => Offer::Problem(Note::from(&problem)),
        };
        Ok::<_, Problem>((offer, name, title))
    })
    .await
}

/// `POST /storages/{name}/create`
pub(super) async fn create(
    view: View,
    Path(name): Path<String>,
    posted: Posted,
) -> Result<Response, Failure> {
    let made = view
        .blocking(move |state| {
            let passphrase = posted.text("passphrase");
            if passphrase != posted.text("again") {
                return Err(Problem::usage("the two passphrases differ")
                    .hint("nothing was made; type the same twice"));
            }
            let secret = secrets::passphrase(passphrase, "the form")?;
            let repository = adopt::create(&state.paths, &name, secret)?;
            Ok(Made { name, created: true, id: repository.id().short() })
        })
        .await?;
    Ok(html(&made))
}

/// `POST /storages/{name}/open`
pub(super) async fn open(
    view: View,
    Path(name): Path<String>,
    posted: Posted,
) -> Result<Response, Failure> {
    let made = view
        .blocking(move |state| {
            let secret = secrets::passphrase(posted.text("passphrase"), "the form")?;
            let repository = adopt::adopt(&state.paths, &name, secret)?;
            Ok::<_, Problem>(Made { name, created: false, id: repository.id().short() })
        })
        .await?;
    Ok(html(&made))
}

/// `POST /storages/{name}/kit`: makes a recovery kit, and shows it once.
pub(super) async fn kit(view: View, Path(name): Path<String>) -> Result<Response, Failure> {
    let text = view.blocking(move |state| make_kit(state, &name)).await?;
    Ok(html(&Kit { text }))
}

fn make_kit(state: &State, name: &str) -> Result<Zeroizing<String>, Problem> {
    match adopt::look(&state.paths, name)? {
        Found::Open(repository) => {
            let kit = recovery::make(&repository, &state.machine);
            Ok(kit.map_err(|e| catalogue::explain(&e, None))?.text)
        }
        _ => Err(Problem::new(Class::PassphraseNeeded, "the repository is not open here yet")
            .hint("open it with its passphrase first")),
    }
}
