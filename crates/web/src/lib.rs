//! The console in the browser: server-rendered pages over what `holdfast-app` does.
//!
//! [`Console`] is the server. Inside: `guard` lets requests in (host, origin, session, token), `tls`
//! encrypts connections, `view` is what every page needs, `opened` are the repositories that pages
//! look into, `live` are the events that pages follow, `serve` answers connections, `pages/` hold one
//! file a page. Handlers are thin; what takes longer than a moment runs on a blocking thread.

mod accounts;
mod api;
mod assets;
mod console;
mod failure;
mod guard;
mod hints;
mod live;
mod names;
mod opened;
mod pages;
mod posted;
mod record;
mod router;
mod serve;
mod state;
mod tls;
mod view;
mod words;

pub use accounts::{Accounts, LIVES, Token};
pub use console::{Console, Options, running, to_snapshots};
pub use tls::{Certificates, Tls};
