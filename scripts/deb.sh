#!/usr/bin/env bash
# Builds a Debian package of a binary that is there: scripts/deb.sh [BINARY] [DIRECTORY]. Nothing but dpkg-deb is needed.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/release/strandline}
out=${2:-target/debian}
[ -x "$binary" ] || { echo "no $binary: cargo build --release, or name another one" >&2; exit 1; }
version=$("$binary" version | cut -d ' ' -f 2)
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -D -m 755 "$binary" "$root/usr/bin/strandline"
strip --strip-unneeded "$root/usr/bin/strandline" 2>/dev/null || true
install -D -m 644 contrib/systemd/strandline.service "$root/usr/lib/systemd/system/strandline.service"
install -D -m 644 LICENSE "$root/usr/share/doc/strandline/copyright"
install -m 644 CHANGELOG.md docs/CLI.md docs/CONFIG.md docs/STATUS.md "$root/usr/share/doc/strandline/"
cp -r docs/errors docs/operate "$root/usr/share/doc/strandline/"
for file in contrib/grafana/strandline.json contrib/prometheus/rules.yaml; do
    install -D -m 644 "$file" "$root/usr/share/doc/strandline/${file#contrib/}"
done
mkdir -p "$root/usr/share/man/man1" "$root/etc/strandline"
"$binary" man | gzip -9n >"$root/usr/share/man/man1/strandline.1.gz"
for shell in bash:usr/share/bash-completion/completions/strandline zsh:usr/share/zsh/vendor-completions/_strandline \
    fish:usr/share/fish/vendor_completions.d/strandline.fish; do
    mkdir -p "$root/$(dirname "${shell#*:}")"
    "$binary" completions "${shell%%:*}" >"$root/${shell#*:}"
done
chmod 750 "$root/etc/strandline"
mkdir -p "$root/DEBIAN"
size=$(du -sk "$root" | cut -f 1)
# What the binary was linked with, no more.
glibc=$(objdump -T "$binary" 2>/dev/null | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1 | cut -d _ -f 2 || true)
cat >"$root/DEBIAN/control" <<CONTROL
Package: strandline
Version: $version
Architecture: $arch
Maintainer: strandline <strandline@localhost>
Installed-Size: $size
Depends: libc6 (>= ${glibc:-2.36}), libgcc-s1, adduser, ca-certificates
Section: database
Priority: optional
Homepage: https://github.com/strandline/strandline
Description: change data capture into Delta Lake and Kafka
 Keeps Delta Lake tables or Kafka topics equal to a PostgreSQL or MySQL
 database, with the log's position in the same commit as the data.
CONTROL
cat >"$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if ! getent passwd strandline >/dev/null; then
        adduser --system --group --home /nonexistent --no-create-home --quiet strandline
    fi
    chgrp strandline /etc/strandline
    if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
fi
POSTINST
cat >"$root/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl stop strandline.service || true; fi
PRERM
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
mkdir -p "$out"
dpkg-deb --root-owner-group -Z "${STRANDLINE_DEB_COMPRESSION:-xz}" --build "$root" "$out/strandline_${version}_${arch}.deb"
