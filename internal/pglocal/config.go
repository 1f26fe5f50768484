package pglocal

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const configFile = "postgresql.conf"

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_.]*$`)

// config is the whole postgresql.conf: what initdb wrote depends on the machine, this does not.
func (s *Server) config() (string, error) {
	settings := map[string]string{
		"max_connections":            "100",
		"wal_level":                  "logical",
		"timezone":                   "UTC",
		"log_timezone":               "UTC",
		"lc_messages":                "C",
		"default_text_search_config": "pg_catalog.simple",
		"log_line_prefix":            "%m [%p] %q%u@%d ",
	}
	if !s.cfg.Detach {
		// Files in the data folder go with it; segments in /dev/shm would stay behind a killed server.
		settings["dynamic_shared_memory_type"] = "mmap"
	}
	if s.cfg.NoSync {
		// synchronous_commit stays on: without it a killed server would lose commits that it had confirmed.
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, s.cfg.Settings)
	settings["listen_addresses"] = "127.0.0.1"
	settings["port"] = strconv.Itoa(s.Port)
	settings["unix_socket_directories"] = s.SocketDir
	settings["unix_socket_permissions"] = "0700"

	var b strings.Builder
	b.WriteString("# Written by landlord at every start; changes are lost.\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !settingName.MatchString(name) || strings.ContainsAny(settings[name], "\n\r\x00") {
			return "", fmt.Errorf("setting %q: neither names nor values hold quotes or line breaks", name)
		}
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return b.String(), nil
}

// readPort finds the port in a configuration that config wrote, 0 if the server never started.
func readPort(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "port = '"); ok {
			return strconv.Atoi(strings.TrimSuffix(v, "'"))
		}
	}
	return 0, lines.Err()
}
