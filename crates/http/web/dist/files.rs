// Written by pack.mjs.
const FILES: &[File] = &[
    File {
        path: "/app.css",
        kind: "text/css; charset=utf-8",
        packed: include_bytes!("app.css.gz"),
        tag: "\"fea11b44c4682d58\"",
    },
    File {
        path: "/app.js",
        kind: "text/javascript; charset=utf-8",
        packed: include_bytes!("app.js.gz"),
        tag: "\"292ab528400daaec\"",
    },
    File {
        path: "/",
        kind: "text/html; charset=utf-8",
        packed: include_bytes!("index.html.gz"),
        tag: "\"b83725862d77e3d8\"",
    },
    File {
        path: "/verifier.js",
        kind: "text/javascript; charset=utf-8",
        packed: include_bytes!("verifier.js.gz"),
        tag: "\"828340e3b48e2abe\"",
    },
];
