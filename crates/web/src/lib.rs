//! The console in the browser: server-rendered pages over what `holdfast-app` does.
