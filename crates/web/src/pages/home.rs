//! Home: is all well, and what is to do.

use askama::Template;
use axum::response::Response;
use holdfast_app::Problem;

use crate::failure::Failure;
use crate::view::{Frame, Nav, View, html};

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    storages: usize,
}

/// `GET /`
pub(crate) async fn show(view: View) -> Result<Response, Failure> {
    let storages =
        view.blocking(|state| Ok::<_, Problem>(state.paths.load_config()?.names().len())).await?;
    let frame = view.frame("Home", Nav::Home, "holdfast config repository list");
    Ok(html(&Home { frame, storages }))
}
