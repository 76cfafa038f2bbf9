//! Which address is answered by which page. Each area adds its own routes.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::state::Shared;
use crate::{api, assets, guard, live, pages};

/// The whole console.
pub(crate) fn router(state: Shared) -> Router {
    let signed_in = Router::new()
        .route("/", get(pages::home::show))
        .route("/totals", get(pages::home::totals::show))
        .route("/events", get(live::events))
        .route("/appearance", post(pages::appearance::set))
        .route("/sign-out", post(pages::sign_in::leave))
        .merge(pages::alerts::routes())
        .merge(pages::settings::routes())
        .merge(pages::storages::routes())
        .merge(pages::plans::routes())
        .merge(pages::runs::routes())
        .merge(pages::start::routes())
        .merge(pages::snapshots::routes())
        .merge(pages::browse::routes())
        .merge(pages::find::routes())
        .merge(pages::compare::routes())
        .merge(pages::restore::routes())
        .merge(pages::repository::routes())
        .merge(pages::unlock::routes())
        .fallback(guard::nowhere)
        .layer(from_fn_with_state(state.clone(), guard::signed_in));
    Router::new()
        .route("/assets/{name}", get(assets::get))
        .route("/open", get(pages::open::open))
        .route("/sign-in", get(pages::sign_in::show).post(pages::sign_in::enter))
        .route("/healthz", get(api::health))
        .merge(api::routes(state.clone()))
        .merge(signed_in)
        .layer(from_fn_with_state(state.clone(), guard::same_site))
        .layer(from_fn_with_state(state.clone(), guard::seal))
        .with_state(state)
}
