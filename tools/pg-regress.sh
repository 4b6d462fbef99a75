#!/usr/bin/env bash
# Fetches PostgreSQL's own regression tests for the server that is installed here, from
# Debian's source package, and builds what they need. The tests that restore the
# database which they leave behind then run with CAIRN_PG_REGRESS=DIR.
#
#   tools/pg-regress.sh DIR
#
# It needs apt-get, a C compiler, some 200 MB in DIR, and no root.
set -euo pipefail
[[ $# == 1 ]] || { echo "usage: $0 DIR" >&2; exit 64; }
mkdir -p "$1" && cd "$1"

config=$(ls -d /usr/lib/postgresql/*/bin/pg_config | sort -V | tail -1)
major=$("$config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
version=$(dpkg-query -W -f '${Version}' "postgresql-$major")

# Lists of our own, as few machines have those of source packages.
mkdir -p lists/partial
. /etc/os-release
cat >sources.list <<END
deb-src http://deb.debian.org/debian $VERSION_CODENAME main
deb-src http://deb.debian.org/debian-security $VERSION_CODENAME-security main
END
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$PWD/lists"
	-o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=")
"${apt[@]}" update
"${apt[@]}" source --download-only "postgresql-$major=$version"
apt-get -qq download "postgresql-server-dev-$major=$version"

tar -xf postgresql-"$major"_*.orig.tar.* --strip-components=4 --wildcards '*/src/test/regress/*'
dpkg -x postgresql-server-dev-"$major"_*.deb dev
gcc -shared -fPIC -O1 -w -I"dev/usr/include/postgresql/$major/server" -o regress.so regress.c
for module in autoinc refint; do
	ln -sf "$("$config" --pkglibdir)/$module.so" .
done
rm -rf dev lists sources.list ./*.deb ./*.dsc ./*.tar.*
chmod -R a+rX . # another user runs the server, and reads this
echo "$0: done: CAIRN_PG_REGRESS=$PWD go test ./postgres/..."
