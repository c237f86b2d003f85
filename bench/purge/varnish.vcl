# Varnish with all its ways of purging. systems.py fills in $ORIGIN.
vcl 4.1;

import std;
import xkey;

backend default {
    .host = "127.0.0.1";
    .port = "$ORIGIN";
}

sub vcl_recv {
    if (req.method == "PURGE" && req.http.xkey-purge) {
        set req.http.purged = xkey.purge(req.http.xkey-purge);
        return (synth(200, "Purged"));
    }
    if (req.method == "PURGE") {
        return (purge);
    }
    if (req.method == "BAN") {
        if (!std.ban(req.http.ban)) {
            return (synth(400, "Not a ban"));
        }
        return (synth(200, "Banned"));
    }
    unset req.http.Cookie;
}

# Bans on what the object says of itself can be looked for by the ban lurker, in the background.
sub vcl_backend_response {
    set beresp.http.x-url = bereq.url;
    set beresp.http.x-host = bereq.http.Host;
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
    unset resp.http.x-url;
    unset resp.http.x-host;
}
