package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// config is landlord.yaml. A variable LANDLORD_<KEY> goes before the file's key; clusters stand in the file only.
type config struct {
	// Catalog refers to the connection string of the control database. Required.
	Catalog placement.Ref `mapstructure:"catalog"`

	// Keys refers to the seal keys. Required. `init` makes the first key when the file is missing.
	Keys placement.Ref `mapstructure:"keys"`

	// IDType is what a tenant's id is: uuid (the default), bigint or text. It is chosen once, by the first `init`.
	IDType tenant.IDType `mapstructure:"id_type"`

	// Mode is how the current tenant is kept from being forged. Empty: the strongest that the servers allow.
	Mode isolation.Mode `mapstructure:"mode"`

	// Migrations is the folder of the application's goose files. Empty: homes are made without tables.
	Migrations string `mapstructure:"migrations"`

	// Clusters are added to the catalog by `init`. Others may be added later by `cluster add`.
	Clusters []clusterConfig `mapstructure:"clusters"`

	// Audit says which findings of `audit` are as they should be.
	Audit auditConfig `mapstructure:"audit"`
}

// clusterConfig is an entry of clusters; see placement.Cluster for what the fields mean.
type clusterConfig struct {
	Name     string        `mapstructure:"name"`
	Endpoint string        `mapstructure:"endpoint"`
	Database string        `mapstructure:"database"` // the shared database, made by `init`
	Operator placement.Ref `mapstructure:"operator"`
	App      placement.Ref `mapstructure:"app"`
	Admin    placement.Ref `mapstructure:"admin"`
	Region   string        `mapstructure:"region"`
	Tier     string        `mapstructure:"tier"`
	Capacity int           `mapstructure:"capacity"` // tenants; 0 means no limit

	Connections int `mapstructure:"connections"` // of all routers together; 0 means placement.DefaultConnections
}

func (c clusterConfig) cluster() placement.Cluster {
	return placement.Cluster{
		Name:           c.Name,
		Endpoint:       c.Endpoint,
		Region:         c.Region,
		Tier:           c.Tier,
		State:          placement.ClusterActive,
		Capacity:       c.Capacity,
		Connections:    cmp.Or(c.Connections, placement.DefaultConnections),
		SharedDatabase: c.Database,
		Operator:       c.Operator,
		App:            c.App,
		Admin:          c.Admin,
	}
}

// Validate reports every problem, each by the name of its key.
func (c config) Validate() error {
	var problems []error
	add := func(key string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
		}
	}
	add("catalog", c.Catalog.Validate())
	add("keys", c.Keys.Validate())
	_, err := tenant.ParseIDType(string(c.IDType))
	add("id_type", err)
	if c.Mode != "" {
		_, err = isolation.ParseMode(string(c.Mode))
		add("mode", err)
	}
	names := map[string]bool{}
	for i, cluster := range c.Clusters {
		key := fmt.Sprintf("clusters[%d]", i)
		for _, err := range unjoin(cluster.cluster().Validate()) {
			add(key, err)
		}
		if names[cluster.Name] {
			add(key, fmt.Errorf("name: another cluster is called %q too", cluster.Name))
		}
		names[cluster.Name] = true
	}
	for i, entry := range c.Audit.Allow {
		for _, err := range unjoin(entry.allowed().Validate()) {
			add(fmt.Sprintf("audit.allow[%d]", i), err)
		}
	}
	return errors.Join(problems...)
}

// cluster returns the entry of that name, or the first one without a name.
func (c config) cluster(name string) (placement.Cluster, error) {
	if name == "" && len(c.Clusters) > 0 {
		return c.Clusters[0].cluster(), nil
	}
	var names []string
	for _, cluster := range c.Clusters {
		if cluster.Name == name {
			return cluster.cluster(), nil
		}
		names = append(names, cluster.Name)
	}
	return placement.Cluster{}, fmt.Errorf("find cluster %q: the configuration has %s", name, orNone(names))
}

// config returns the configuration, read at the first call.
func (a *app) config() (config, error) {
	a.loadOnce.Do(func() { a.loaded, a.loadErr = loadConfig(a.configPath) })
	return a.loaded, a.loadErr
}

// configPlaces are searched in the current folder only: a configuration found further up would be somebody else's surprise.
var configPlaces = []string{"landlord.yaml", filepath.Join(devFolder, "landlord.yaml")}

// loadConfig reads the file at path, or the first that exists of the usual ones, and the variables.
func loadConfig(path string) (config, error) {
	if path == "" {
		path = os.Getenv("LANDLORD_CONFIG")
	}
	for _, place := range configPlaces {
		if _, err := os.Stat(place); path == "" && err == nil {
			path = place
		}
	}
	v := viper.New()
	v.SetEnvPrefix("landlord")
	v.SetDefault("id_type", string(tenant.UUID))
	for _, key := range []string{"catalog", "keys", "id_type", "mode", "migrations"} {
		if err := v.BindEnv(key); err != nil {
			return config{}, fmt.Errorf("read configuration: %w", err)
		}
	}
	base := "."
	if path != "" {
		base = filepath.Dir(path)
		v.SetConfigFile(path)
		v.SetConfigType("yaml")
		if err := v.ReadInConfig(); err != nil {
			return config{}, fmt.Errorf("read configuration %s: %w", path, err)
		}
	} else if !v.IsSet("catalog") {
		return config{}, fmt.Errorf("read configuration: there is no %s here: run 'landlord dev up' for local servers, or name a file with --config",
			strings.Join(configPlaces, " or "))
	}
	c, err := decode(v, base)
	if err != nil {
		return config{}, fmt.Errorf("read configuration %s: %w", path, lines(err))
	}
	return c, nil
}

// decode fills the struct, makes what is relative to base absolute and validates the result.
func decode(v *viper.Viper, base string) (config, error) {
	var c config
	problems := decodeProblems(v.UnmarshalExact(&c))
	base, err := filepath.Abs(base)
	if err != nil {
		return config{}, err
	}
	for _, ref := range c.refs() {
		if file, ok := strings.CutPrefix(string(*ref), "file:"); ok && file != "" && !filepath.IsAbs(file) {
			*ref = placement.Ref("file:" + filepath.Join(base, file))
		}
	}
	if c.Migrations != "" && !filepath.IsAbs(c.Migrations) {
		c.Migrations = filepath.Join(base, c.Migrations)
	}
	return c, errors.Join(append(problems, c.Validate())...)
}

// decodeProblems says of each what did not fit which key. Values are left out: one of them may be a secret.
func decodeProblems(err error) []error {
	var problems []error
	for _, e := range unjoin(errors.Unwrap(err)) {
		if at, ok := errors.AsType[*mapstructure.DecodeError](e); ok {
			e = fmt.Errorf("%s %w", cmp.Or(at.Name(), "the file"), at.Unwrap())
		}
		problems = append(problems, e)
	}
	return problems
}

// refs are all references in c.
func (c *config) refs() []*placement.Ref {
	refs := []*placement.Ref{&c.Catalog, &c.Keys}
	for i := range c.Clusters {
		refs = append(refs, &c.Clusters[i].Operator, &c.Clusters[i].App, &c.Clusters[i].Admin)
	}
	return refs
}

// unjoin takes a joined error apart.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var parts []error
	for _, e := range joined.Unwrap() {
		parts = append(parts, unjoin(e)...)
	}
	return parts
}

// lines sets several problems one below the other.
func lines(err error) error {
	parts := unjoin(err)
	if len(parts) == 1 {
		return parts[0]
	}
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "\n  %v", p)
	}
	return errors.New(b.String())
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
