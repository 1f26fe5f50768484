package main

import (
	"bytes"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"text/template"

	"github.com/landlord-go/landlord/internal/pglocal"
)

// sample is the application that local servers start with: the goose files of a small shop.
//
//go:embed sample/*.sql
var sample embed.FS

// devConfig is landlord.yaml. %q of Go is also a double-quoted string of YAML.
var devConfig = template.Must(template.New("landlord.yaml").Parse(`# Written by 'landlord dev up' at every start; changes are lost. For a configuration of your own
# copy it to ./landlord.yaml, which goes before this one.

catalog: {{printf "file:%s" .Catalog | printf "%q"}}
keys: {{printf "file:%s" .Keys | printf "%q"}}
id_type: uuid
mode: ""  # the strongest that the servers allow; or sealed, sealed-mac, locked, plain
migrations: {{printf "%q" .Migrations}}
clusters:
{{- range .Clusters}}
  - name: {{.Name}}
    endpoint: "host=127.0.0.1 port={{.Port}} sslmode=disable"
    database: {{.Database}}
    operator: {{printf "file:%s" .Operator | printf "%q"}}
    app: {{printf "file:%s" .App | printf "%q"}}
    admin: {{printf "file:%s" .Admin | printf "%q"}}
    region: local
    tier: standard
    capacity: 0
{{- end}}
`))

// write makes the files of the environment: what follows from the servers is replaced, secrets and migrations that
// exist are kept.
func (d devEnv) write(servers []*pglocal.Server) error {
	for _, folder := range []string{filepath.Dir(d.secret("x")), d.migrations()} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	type cluster struct {
		Name, Database, Operator, App, Admin string
		Port                                 int
	}
	var clusters []cluster
	var errs []error
	for _, s := range servers {
		c := cluster{
			Name:     s.Name,
			Port:     s.Port,
			Database: devSharedDatabase,
			Operator: d.secret(s.Name + ".operator.dsn"),
			App:      d.secret(s.Name + ".app.secret"),
			Admin:    d.secret(s.Name + ".admin.secret"),
		}
		clusters = append(clusters, c)
		errs = append(errs,
			replaceFile(c.Operator, s.DSN()+"\n"),
			keepFile(c.App, rand.Text()+rand.Text()+"\n"),
			keepFile(c.Admin, rand.Text()+rand.Text()+"\n"))
	}
	control, err := controlDSN(servers[0])
	errs = append(errs, err, replaceFile(d.secret("catalog.dsn"), control+"\n"), d.writeSample())

	var text bytes.Buffer
	err = devConfig.Execute(&text, map[string]any{
		"Catalog":    d.secret("catalog.dsn"),
		"Keys":       d.secret("seal.keys"),
		"Migrations": d.migrations(),
		"Clusters":   clusters,
	})
	return errors.Join(append(errs, err, replaceFile(d.configFile(), text.String()))...)
}

func controlDSN(s *pglocal.Server) (string, error) {
	u, err := url.Parse(s.DSN())
	if err != nil {
		return "", errors.New("the server's connection string cannot be read")
	}
	u.Path = "/" + devControlDatabase
	return u.String(), nil
}

func (d devEnv) writeSample() error {
	files, err := fs.Glob(sample, "sample/*.sql")
	for _, file := range files {
		text, readErr := sample.ReadFile(file)
		err = errors.Join(err, readErr, keepFile(filepath.Join(d.migrations(), path.Base(file)), string(text)))
	}
	return err
}

// replaceFile writes a file that only its owner may read, whole or not at all.
func replaceFile(name, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(text)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// keepFile writes a file unless it exists.
func keepFile(name, text string) error {
	switch _, err := os.Lstat(name); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for %s: %w", name, err)
	}
	return replaceFile(name, text)
}
