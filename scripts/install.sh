#!/usr/bin/env bash
# Installs what building, testing and the demo need; what is there already is left alone.
#
#   scripts/install.sh build              C and C++ compiler, make, perl, pkg-config (for vendored C libraries)
#   scripts/install.sh postgres [MAJOR…]  PostgreSQL servers, 14 to 18, into the cache (default: 15 18)
#   scripts/install.sh mysql              MySQL 9 (Debian sid's packages, unpacked into the cache)
#   scripts/install.sh mariadb [SERIES…]  MariaDB 11.8 and 10.11 (Debian's packages), likewise (default: both)
#   scripts/install.sh pg-extensions      PostgreSQL 17 with PostGIS and pgvector (Debian 13's packages), for `make test-matrix`
#   scripts/install.sh pgbouncer          a pooler, for the test that refuses one
#   scripts/install.sh promtool           Prometheus' checker of alert rules, for their tests
#   scripts/install.sh psql               PostgreSQL's client, for the demo's workload
#   scripts/install.sh kafka              Apache Kafka (a Java runtime and Maven with it, where they are missing)
#   scripts/install.sh registry           a Schema Registry and a reader of Avro
#   scripts/install.sh readers            Python environment with DuckDB, delta-rs and Polars, all pinned
#   scripts/install.sh spark [SERIES…]    Apache Spark 4 and 3.5 with delta-spark, for `make test-spark` (default: both)
#   scripts/install.sh s3                 Python environment with an S3 server (moto), pinned
#   scripts/install.sh test | demo        all of the above that `make test` | `make demo` needs
#
# Nothing is put on the system but Debian packages. Servers and readers go to $STRANDLINE_CACHE
# (default: ~/.cache/strandline, or /var/cache/strandline for root; see lib.sh).

. "$(dirname "$0")/lib.sh"

# Newest minors that were tested. The binaries are zonky's builds (Apache-2.0), published on Maven Central:
# relocatable, with all contrib modules and pgoutput, without client programs.
declare -A PG_VERSION=([14]=14.24.0 [15]=15.19.0 [16]=16.15.0 [17]=17.11.0 [18]=18.6.0)
declare -A PG_SHA256_AMD64=(
    [14]=2722d05eb22c671104c9918d59d8ba9f5656898f5452a0207bb4cce21eef5dc4
    [15]=95f0b66fe72d4ca66c815773c44cb1196ea38552463e89a35f18114b3ed1565f
    [16]=653abc065c682b85d3da50168fb95dc524bd85426cdec9ce3695a550ef431df2
    [17]=0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d
    [18]=008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1
)
MAVEN=${STRANDLINE_MAVEN:-https://repo1.maven.org/maven2}

# An S3 server with atomic conditional writes, in memory.
S3_PACKAGES="moto==5.2.5 flask==3.1.3 flask-cors==6.0.5 py-partiql-parser==0.6.3 PyYAML==6.0.3"

# The newest release whose parts are all on Maven Central. A broker and its tools, nothing of Connect.
KAFKA_VERSION=4.3.1
# A Schema Registry with Confluent's interface, and a reader of Avro that is not ours.
REGISTRY_VERSION=3.0.9
AVRO_PACKAGES="fastavro==1.12.1"

# Apache Spark and the Delta Lake for it. The second number of Spark is in the artifact's name since Delta 4.1.
declare -A SPARK_VERSION=([4]=4.1.1 [3.5]=3.5.9)
declare -A DELTA_ARTIFACT=([4]=io.delta:delta-spark_4.1_2.13:4.3.1 [3.5]=io.delta:delta-spark_2.12:3.3.3)

READER_PACKAGES="duckdb==1.5.5 duckdb-extensions==1.5.5 duckdb-extension-delta==1.5.5 deltalake==1.6.6 polars==2.1.0 pyarrow==26.0.1"

install_build() {
    command -v cargo >/dev/null || [ -x "$HOME/.cargo/bin/cargo" ] ||
        die "no Rust toolchain: install rustup from https://rustup.rs (rust-toolchain.toml pins the version)"
    need cc gcc c++ g++ make make pkg-config pkg-config
    # The vendored OpenSSL of librdkafka is configured by perl, with modules that Debian's minimal perl lacks.
    perl -MFindBin -MIPC::Cmd -MPod::Usage -e 1 2>/dev/null || apt_install perl
}

pg_platform() {
    case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64v8 ;;
    *) die "no PostgreSQL binaries for $(uname -m); set STRANDLINE_PG_BIN_18=/path/to/bin and so on" ;;
    esac
}

# fetch_jar MAJOR FILE: by Maven where it is installed (it knows about mirrors), else one plain download.
fetch_jar() {
    local major=$1 file=$2 version=${PG_VERSION[$1]} platform
    platform=$(pg_platform)
    local artifact=embedded-postgres-binaries-linux-$platform
    if [ -z "${STRANDLINE_MAVEN:-}" ] && command -v mvn >/dev/null; then
        mvn -q -B dependency:copy -Dartifact="io.zonky.test.postgres:$artifact:$version" \
            -DoutputDirectory="$CACHE/download" -Dmdep.useBaseVersion=true >"$CACHE/mvn.log" 2>&1 ||
            { tail -n 20 "$CACHE/mvn.log" >&2; die "maven could not fetch PostgreSQL $version"; }
        mv "$CACHE/download/$artifact-$version.jar" "$file"
    else
        local url=$MAVEN/io/zonky/test/postgres/$artifact/$version/$artifact-$version.jar
        curl -fL --retry 3 --progress-bar -o "$file" "$url" || die "could not fetch $url"
    fi
    local expected=${PG_SHA256_AMD64[$major]}
    if [ "$platform" = amd64 ]; then
        echo "$expected  $file" | sha256sum --check --status || die "wrong checksum: $file (PostgreSQL $version)"
    else
        say "no pinned checksum for $platform; relying on TLS"
    fi
}

make_pg_user() {
    is_root || return 0
    local user
    user=$(pg_user)
    id "$user" >/dev/null 2>&1 && return 0
    say "adding the system user $user: PostgreSQL refuses to run as root"
    useradd --system --no-create-home --shell /usr/sbin/nologin "$user"
}

install_postgres() {
    local majors=("$@") major
    [ ${#majors[@]} -gt 0 ] || majors=(15 18)
    make_pg_user
    for major in "${majors[@]}"; do
        [ -n "${PG_VERSION[$major]:-}" ] || die "PostgreSQL $major: known are 14 to 18"
        local version=${PG_VERSION[$major]} dir=$SERVERS/pg$major
        [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$version" ] && continue
        need curl curl unzip unzip xz xz-utils
        say "fetching PostgreSQL $version (15 MB) into $dir"
        local jar=$CACHE/download/pg$major.jar
        fetch_jar "$major" "$jar"
        rm -rf "$dir" "$dir.part"
        mkdir -p "$dir.part"
        unzip -p "$jar" '*.txz' | tar xJ -C "$dir.part"
        chmod -R a+rX "$dir.part"
        echo "$version" >"$dir.part/.stamp"
        mv "$dir.part" "$dir"
        rm -f "$jar"
    done
    if is_root && ! setpriv --reuid="$(pg_user)" --regid="$(id -g "$(pg_user)")" --clear-groups test -x "$SERVERS/pg${majors[0]}/bin/postgres"; then
        die "user $(pg_user) cannot reach $SERVERS: set STRANDLINE_CACHE to a place that every user may enter"
    fi
}

# Debian's own mirror as this machine knows it; on another system, the public one.
debian_mirror() {
    local found
    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
        grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
    echo "${STRANDLINE_DEBIAN:-${found:-http://deb.debian.org/debian}}"
}

# fetch_debs SUITE DIR PACKAGE…: unpacks the packages with everything that they depend on, libc included, into
# DIR. Nothing is installed: a private apt with an empty status downloads, and the programs are run by DIR's own
# ld.so. Returns 1 when the suite does not have them.
fetch_debs() {
    local suite=$1 dir=$2 work=$CACHE/download/apt-$1-$$ deb
    shift 2
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || apt_install debian-archive-keyring
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$dir.part"
    : >"$work/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $suite main" >"$work/sources.list"
    cat >"$work/apt.conf" <<CONF
Dir::State "$work"; Dir::State::lists "$work/lists"; Dir::State::status "$work/status"; Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null"; Acquire::Check-Valid-Until "false"; Acquire::Languages "none";
APT::Install-Recommends "false"; APT::Sandbox::User "$(id -un)"; Debug::NoLocking "true";
CONF
    APT_CONFIG=$work/apt.conf apt-get update -q >"$CACHE/apt.log" 2>&1 || true
    local get=(install -y -q --download-only)
    [ -z "${WITHOUT_DEPENDENCIES:-}" ] || get=(download -q)
    if ! (cd "$work/cache/archives" && APT_CONFIG=$work/apt.conf apt-get "${get[@]}" "$@" >>"$CACHE/apt.log" 2>&1); then
        rm -rf "$work" "$dir.part"
        return 1
    fi
    for deb in "$work"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar x -C "$dir.part" --exclude=./usr/share/doc --exclude=./usr/share/man \
            --exclude='./usr/lib/x86_64-linux-gnu/perl*' --exclude='./usr/share/perl*' --exclude='*/gconv' --exclude='*libperl*'
    done
    # Before Debian 13 the loader stands beside /usr.
    if [ -d "$dir.part/lib64" ] && [ ! -e "$dir.part/usr/lib64" ]; then
        ln -s ../lib64 "$dir.part/usr/lib64"
        ln -sfn ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$dir.part/lib64/ld-linux-x86-64.so.2"
    fi
    rm -rf "$work"
}

# foreign DIR PROGRAM …: a program of DIR, by DIR's own libraries.
foreign() {
    local dir=$1 program=$2
    shift 2
    "$dir"/usr/lib64/ld-linux-x86-64.so.2 --library-path "$dir/usr/lib/x86_64-linux-gnu:$dir/lib/x86_64-linux-gnu" \
        "$dir/$program" "$@"
}

# finish_debs DIR PROGRAM: names the version in the stamp, and puts the folder in its place.
finish_debs() {
    chmod -R a+rX "$1.part"
    foreign "$1.part" "$2" --no-defaults --version 2>/dev/null | sed -E 's/.*Ver ([^ ]+).*/\1/' >"$1.part/.stamp"
    [ -s "$1.part/.stamp" ] || die "$2 does not run from $1.part"
    rm -rf "$1"
    mv "$1.part" "$1"
}

is_amd64() { [ "$(uname -m)" = x86_64 ]; }

# Where each data directory says for itself which components are loaded, and with what: a keyring, for a log that is encrypted.
mysql_manifests() {
    echo '{"read_local_manifest": true}' >"$1/usr/sbin/mysqld.my"
    echo '{"read_local_config": true}' >"$1/usr/lib/mysql/plugin/component_keyring_file.cnf"
}

# Only Debian's moving suite has MySQL: where it is dropped there, its tests are skipped, loudly.
install_mysql() {
    local dir=$SERVERS/mysql9
    if [ -s "$dir/.stamp" ]; then
        mysql_manifests "$dir"
        return 0
    fi
    if ! is_amd64; then
        say "NO MYSQL on $(uname -m): the tests on MySQL are SKIPPED"
        return 0
    fi
    say "fetching MySQL (65 MB, Debian sid) into $dir"
    if ! fetch_debs sid "$dir" mysql-server-core mysql-client-core; then
        say "NO MYSQL: Debian sid does not have mysql-server-core now; the tests on MySQL are SKIPPED"
        return 0
    fi
    finish_debs "$dir" usr/sbin/mysqld
    mysql_manifests "$dir"
    say "MySQL $(cat "$dir/.stamp")"
}

# The server's plug-ins for authentication, and the one that has keys, stand in another package than the server.
mariadb_plugins() {
    local suite=$1 to=$2/usr/lib/mysql/plugin from=$CACHE/download/plugins-$$
    [ -e "$to/auth_ed25519.so" ] && [ -e "$to/file_key_management.so" ] && return 0
    WITHOUT_DEPENDENCIES=yes fetch_debs "$suite" "$from" mariadb-server ||
        { tail -n 20 "$CACHE/apt.log" >&2; die "could not fetch the plug-ins of MariaDB"; }
    mkdir -p "$to"
    cp "$from.part"/usr/lib/mysql/plugin/{auth_*,file_key_management}.so "$to"
    rm -rf "$from.part"
}

install_mariadb() {
    local all=("$@") series suite dir
    [ ${#all[@]} -gt 0 ] || all=(11.8 10.11)
    for series in "${all[@]}"; do
        case $series in
        11.8) suite=trixie ;;
        10.11) suite=bookworm ;;
        *) die "MariaDB $series: known are 10.11 and 11.8" ;;
        esac
        dir=$SERVERS/mariadb$series
        if [ -s "$dir/.stamp" ]; then
            mariadb_plugins "$suite" "$dir"
            continue
        fi
        is_amd64 || { say "NO MARIADB on $(uname -m): the tests on MariaDB are SKIPPED"; return 0; }
        say "fetching MariaDB $series (20 MB, Debian $suite) into $dir"
        fetch_debs "$suite" "$dir" mariadb-server-core mariadb-client-core ||
            { tail -n 20 "$CACHE/apt.log" >&2; die "could not fetch MariaDB $series"; }
        finish_debs "$dir" usr/sbin/mariadbd
        mariadb_plugins "$suite" "$dir"
        say "MariaDB $(cat "$dir/.stamp")"
    done
}

# PostgreSQL 17 of Debian 13 with PostGIS and pgvector and all that they depend on. PostgreSQL's programs look for one another,
# so each is a script that runs the real one by the folder's own loader.
install_pg_extensions() {
    local dir=$SERVERS/pg17-extensions program
    [ -s "$dir/.stamp" ] && return 0
    if ! is_amd64; then
        say "NO PostGIS and pgvector on $(uname -m): their types are not compared"
        return 0
    fi
    make_pg_user
    say "fetching PostgreSQL 17 with PostGIS and pgvector (Debian 13) into $dir"
    rm -rf "$dir.part"
    fetch_debs trixie "$dir" postgresql-17 postgresql-17-postgis-3 postgresql-17-postgis-3-scripts postgresql-17-pgvector ||
        { tail -n 20 "$CACHE/apt.log" >&2; die "Debian 13 could not be asked for postgresql-17-postgis-3"; }
    local bin=$dir.part/usr/lib/postgresql/17/bin
    for program in postgres initdb; do
        mv "$bin/$program" "$bin/$program.real"
        cat >"$bin/$program" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
root=${here%/usr/lib/postgresql/17/bin}
export PROJ_DATA="$root/usr/share/proj"
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --argv0 "$here/$(basename "$0")" \
    --library-path "$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu" "$here/$(basename "$0").real" "$@"
WRAPPER
        chmod 755 "$bin/$program"
    done
    # What the package's own installation does by update-alternatives.
    (cd "$dir.part/usr/share/postgresql/17/extension" && ln -s postgis-3.control postgis.control)
    chmod -R a+rX "$dir.part"
    "$bin/postgres" --version | sed -E 's/.*\(PostgreSQL\) ([0-9.]+).*/\1-extensions/' >"$dir.part/.stamp"
    [ -s "$dir.part/.stamp" ] || die "PostgreSQL 17 does not run from $dir.part"
    cp "$dir.part/.stamp" "$bin/../.stamp"
    rm -rf "$dir"
    mv "$dir.part" "$dir"
}

# PgBouncer, unpacked into the cache: installing the package would start a service.
install_pgbouncer() {
    local dir=$SERVERS/pgbouncer
    [ -x "$dir/usr/sbin/pgbouncer" ] && return 0
    command -v apt-get >/dev/null || die "no apt-get: put a pgbouncer at $dir/usr/sbin/pgbouncer"
    say "fetching PgBouncer into $dir"
    rm -rf "$dir.part" && mkdir -p "$dir.part"
    (cd "$dir.part" && apt-get download -q pgbouncer >/dev/null && apt-get download -q 'libc-ares2' >/dev/null 2>&1 || true)
    ls "$dir.part"/pgbouncer_*.deb >/dev/null 2>&1 || die "apt-get could not download pgbouncer (apt-get update?)"
    local deb
    for deb in "$dir.part"/*.deb; do dpkg-deb -x "$deb" "$dir.part"; done
    rm -f "$dir.part"/*.deb
    rm -rf "$dir" && mv "$dir.part" "$dir"
    if is_root; then chmod -R a+rX "$dir"; fi
}

# Prometheus' checker alone, unpacked into the cache: installing the package would start a service.
install_promtool() {
    local dir=$SERVERS/promtool
    [ -x "$dir/promtool" ] && return 0
    command -v apt-get >/dev/null || die "no apt-get: put a promtool at $dir/promtool"
    say "fetching promtool (19 MB) into $dir"
    rm -rf "$dir.part" && mkdir -p "$dir.part"
    (cd "$dir.part" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; }) >"$CACHE/apt.log" 2>&1 || true
    ls "$dir.part"/prometheus_*.deb >/dev/null 2>&1 || { tail -n 5 "$CACHE/apt.log" >&2; die "apt-get could not download prometheus"; }
    dpkg-deb --fsys-tarfile "$dir.part"/prometheus_*.deb | tar x -C "$dir.part" --strip-components=3 ./usr/bin/promtool
    rm -f "$dir.part"/*.deb
    rm -rf "$dir" && mv "$dir.part" "$dir"
    if is_root; then chmod -R a+rX "$dir"; fi
}

# Maven checks what it fetches; it knows about mirrors. Without the SLF4J binding the broker logs nothing.
install_kafka() {
    local dir=$SERVERS/kafka
    [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$KAFKA_VERSION" ] && return 0
    need java default-jre-headless mvn maven
    say "fetching Apache Kafka $KAFKA_VERSION (50 MB) into $dir"
    rm -rf "$dir" "$dir.part"
    mkdir -p "$dir.part"
    cat >"$dir.part/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>strandline.test</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
    mvn -q -B -f "$dir.part/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$dir.part/libs" >"$CACHE/mvn.log" 2>&1 ||
        { tail -n 20 "$CACHE/mvn.log" >&2; die "maven could not fetch Apache Kafka $KAFKA_VERSION"; }
    local unused
    for unused in connect- jetty- jersey- jakarta hk2- swagger javassist classgraph maven-artifact plexus aopalliance osgi javax jaxb; do
        rm -f "$dir.part/libs/$unused"*.jar
    done
    echo "$KAFKA_VERSION" >"$dir.part/.stamp"
    mv "$dir.part" "$dir"
}

install_registry() {
    local dir=$SERVERS/registry stamp="$REGISTRY_VERSION $AVRO_PACKAGES"
    [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$stamp" ] && return 0
    need java default-jre-headless mvn maven
    need python3 python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
    say "fetching Apicurio Registry $REGISTRY_VERSION (109 MB) and $AVRO_PACKAGES into $dir"
    rm -rf "$dir" "$dir.part"
    mkdir -p "$dir.part"
    mvn -q -B dependency:copy -Dartifact="io.apicurio:apicurio-registry-app:$REGISTRY_VERSION:tar.gz:all" \
        -DoutputDirectory="$dir.part/jars" >"$CACHE/mvn.log" 2>&1 ||
        { tail -n 20 "$CACHE/mvn.log" >&2; die "maven could not fetch Apicurio Registry $REGISTRY_VERSION"; }
    tar xzf "$dir.part/jars/"*.tar.gz -C "$dir.part"
    rm -rf "$dir.part/jars"
    mv "$dir.part" "$dir"
    # Environments of Python know their own path.
    python3 -m venv "$dir/python"
    # shellcheck disable=SC2086
    "$dir/python/bin/pip" install --disable-pip-version-check --no-input -q $AVRO_PACKAGES || die "pip could not install $AVRO_PACKAGES"
    echo "$stamp" >"$dir/.stamp"
}

install_psql() { need psql postgresql-client; }

install_readers() {
    [ "$(cat "$READERS/.stamp" 2>/dev/null)" = "$READER_PACKAGES" ] && return 0
    need python3 python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
    say "setting up the readers of Delta tables in $READERS (650 MB): $READER_PACKAGES"
    rm -rf "$READERS"
    python3 -m venv "$READERS"
    # shellcheck disable=SC2086
    "$READERS/bin/pip" install --disable-pip-version-check --no-input -q $READER_PACKAGES ||
        die "pip could not install the readers"
    # Moves DuckDB's delta extension to where LOAD looks for it; no download at run time.
    "$READERS/bin/python" -c 'from duckdb_extensions import import_extension; import_extension("delta")' >/dev/null
    echo "$READER_PACKAGES" >"$READERS/.stamp"
}

# Spark comes as a Python package with all its jars; of Delta only the jars are needed.
install_spark() {
    local all=("$@") series
    [ ${#all[@]} -gt 0 ] || all=(4 3.5)
    for series in "${all[@]}"; do
        [ -n "${SPARK_VERSION[$series]:-}" ] || die "Spark $series: known are 4 and 3.5"
        local dir=$CACHE/spark$series packages="pyspark==${SPARK_VERSION[$series]} pyarrow==26.0.1" delta=${DELTA_ARTIFACT[$series]}
        [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$packages $delta" ] && continue
        need java default-jre-headless mvn maven
        need python3 python3
        python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
        say "fetching Apache Spark ${SPARK_VERSION[$series]} and $delta (500 MB) into $dir"
        rm -rf "$dir"
        mkdir -p "$dir/jars"
        cat >"$dir/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>strandline.test</groupId><artifactId>delta</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>$(cut -d: -f1 <<<"$delta")</groupId><artifactId>$(cut -d: -f2 <<<"$delta")</artifactId><version>$(cut -d: -f3 <<<"$delta")</version>
    </dependency>
  </dependencies>
</project>
POM
        # What else it needs is Spark's own.
        mvn -q -B -f "$dir/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DincludeGroupIds=io.delta \
            -DoutputDirectory="$dir/jars" >"$CACHE/mvn.log" 2>&1 ||
            { tail -n 20 "$CACHE/mvn.log" >&2; die "maven could not fetch $delta"; }
        python3 -m venv "$dir/python"
        # shellcheck disable=SC2086
        "$dir/python/bin/pip" install --disable-pip-version-check --no-input -q $packages || die "pip could not install $packages"
        echo "$packages $delta" >"$dir/.stamp"
    done
}

install_s3() {
    [ "$(cat "$CACHE/s3/.stamp" 2>/dev/null)" = "$S3_PACKAGES" ] && return 0
    need python3 python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
    say "setting up an S3 server in $CACHE/s3 (140 MB): $S3_PACKAGES"
    rm -rf "$CACHE/s3"
    python3 -m venv "$CACHE/s3"
    # shellcheck disable=SC2086
    "$CACHE/s3/bin/pip" install --disable-pip-version-check --no-input -q $S3_PACKAGES || die "pip could not install the S3 server"
    echo "$S3_PACKAGES" >"$CACHE/s3/.stamp"
}

[ $# -gt 0 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$CACHE/download" "$SERVERS" || die "cannot write $CACHE"
if is_root; then chmod 755 "$CACHE" "$SERVERS"; fi
# One installation at a time: a second one waits and then finds everything there.
need flock util-linux
exec 9>"$CACHE/.lock"
flock 9

what=$1
shift
case $what in
build) install_build ;;
postgres) install_postgres "$@" ;;
mysql) install_mysql ;;
mariadb) install_mariadb "$@" ;;
psql) install_psql ;;
pg-extensions) install_pg_extensions ;;
pgbouncer) install_pgbouncer ;;
promtool) install_promtool ;;
kafka) install_kafka ;;
registry) install_registry ;;
readers) install_readers ;;
spark) install_spark "$@" ;;
s3) install_s3 ;;
test)
    install_build && install_psql && need openssl openssl && install_postgres 15 18 && install_pgbouncer && install_promtool && install_mysql && install_mariadb && install_kafka && install_registry && install_readers && install_s3
    ;;
demo) install_build && install_postgres 18 && install_psql && install_readers ;;
*) die "unknown: $what" ;;
esac
