package audit

import "slices"

// Severity is how much a finding matters.
type Severity string

// The severities.
const (
	Error       Severity = "error"       // a wall between tenants is missing
	Warning     Severity = "warning"     // a wall is thinner than landlord makes it
	Performance Severity = "performance" // row-level security makes it slow
	Info        Severity = "info"        // worth knowing
)

// Severities are all severities, the gravest first.
var Severities = []Severity{Error, Warning, Performance, Info}

// Rule is something that must not be so in a home.
type Rule struct {
	Name     string // stable
	Severity Severity
	Server   bool   // it is about the server, not about one database
	Risk     string // what can happen, in one sentence
	Mends    string // what [Fix] does; "": it leaves the SQL to a person
}

// Safe tells whether [Fix] runs the SQL of the rule's findings.
func (r Rule) Safe() bool { return r.Mends != "" }

// Rules returns all rules.
func Rules() []Rule { return slices.Clone(rules) }

var byName = func() map[string]Rule {
	m := make(map[string]Rule, len(rules))
	for _, r := range rules {
		m[r.Name] = r
	}
	return m
}()

var rules = slices.Concat(tableRules, policyRules, relationRules, routineRules, databaseRules, serverRules)

var tableRules = []Rule{
	{Name: "rls-off", Severity: Error, Risk: "Without row-level security every tenant reads and writes every row of the table.", Mends: "enables and forces it"},
	{Name: "rls-not-forced", Severity: Error, Risk: "The table's owner, and every function and view that runs as the owner, passes the policies by.", Mends: "forces it"},
	{Name: "table-unclassified", Severity: Warning, Risk: "Nothing says whose rows these are, so the table is closed to the application."},
	{Name: "table-open", Severity: Error, Risk: "A table that is neither tenant-owned nor marked as reference or global is shared by all tenants.", Mends: "revokes it"},
	{Name: "reference-writable", Severity: Error, Risk: "What one tenant writes to a reference or global table all others read.", Mends: "revokes all but SELECT"},
	{Name: "partition-reachable", Severity: Error, Risk: "A partition that can be named is a second door to the rows of its parent.", Mends: "revokes it"},
	{Name: "tenant-type", Severity: Error, Risk: "A tenant_id of this type takes two tenants for one."},
	{Name: "tenant-nullable", Severity: Warning, Risk: "A row without tenant_id belongs to nobody, and nobody sees it again."},
	{Name: "tenant-default", Severity: Warning, Risk: "An insert that names no tenant_id fails, or writes a fixed one, instead of taking the transaction's.", Mends: "sets it"},
	{Name: "index-missing", Severity: Performance, Risk: "No index begins with tenant_id, so each query reads the rows of all tenants to find those of one."},
	{Name: "index-slow", Severity: Performance, Risk: "Row-level security is checked before operators that are not leakproof, so queries of the application cannot use the index."},
	{Name: "unique-without-tenant", Severity: Warning, Risk: "A violation of the key tells a tenant that another one has the value."},
	{Name: "unique-random", Severity: Info, Risk: "The key says nothing about other tenants as long as its values are random."},
	{Name: "foreign-key-without-tenant", Severity: Error, Risk: "A reference can lead to another tenant's row, shows that it exists, and a cascade follows it."},
	{Name: "inherits-across", Severity: Error, Risk: "Whoever reads the parent reads the child's rows, under the parent's policies."},
	{Name: "trigger-definer", Severity: Warning, Risk: "The trigger acts with another role's rights on what a tenant writes."},
	{Name: "rule", Severity: Warning, Risk: "A rule runs its statements as the owner of the table, whatever the tenant may do."},
}

var policyRules = []Rule{
	{Name: "policy-missing", Severity: Error, Risk: "One of the two walls of the table is gone, and the next mistake opens it.", Mends: "creates it"},
	{Name: "policy-changed", Severity: Error, Risk: "A policy has landlord's name and says something else.", Mends: "drops it and creates it anew"},
	{Name: "policy-custom", Severity: Error, Risk: "Nobody has said that this policy belongs here; a permissive one widens what a tenant sees as soon as the fence is gone."},
	{Name: "policy-open", Severity: Error, Risk: "A permissive policy that does not ask for the tenant shows every tenant's rows as soon as the fence is gone."},
	{Name: "policy-or", Severity: Error, Risk: "A condition beside the tenant's lets rows through when the tenant's does not hold."},
	{Name: "policy-unchecked", Severity: Error, Risk: "The rows that are written are not tied to the tenant, so one tenant can write another's."},
	{Name: "policy-role", Severity: Warning, Risk: "A plan that is kept outlives a change of roles, and four vulnerabilities of PostgreSQL came of it."},
	{Name: "policy-per-row", Severity: Performance, Risk: "The function is called for every row: wrap the call in (select ...)."},
	{Name: "policy-setting", Severity: Warning, Risk: "Any SQL can change an ordinary setting, so the policy trusts whoever it should keep out."},
	{Name: "policy-definer", Severity: Warning, Risk: "The policy's answer comes from a function with another role's rights, which is called for every row that anybody reads."},
}

var relationRules = []Rule{
	{Name: "view-definer", Severity: Error, Risk: "The view reads with its owner's rights, not with those of the tenant's transaction.", Mends: "sets security_invoker and security_barrier"},
	{Name: "view-no-barrier", Severity: Warning, Risk: "A condition of the caller's can be checked before the view's own and see rows that the view leaves out.", Mends: "sets security_barrier"},
	{Name: "materialized-view-reachable", Severity: Error, Risk: "A materialised view holds the rows of all tenants and cannot have row-level security.", Mends: "revokes it"},
	{Name: "foreign-table-reachable", Severity: Error, Risk: "A foreign table cannot have row-level security.", Mends: "revokes it"},
	{Name: "sequence-readable", Severity: Warning, Risk: "A tenant sees how many rows others write, or can turn their numbers back.", Mends: "revokes it"},
	{Name: "owner", Severity: Warning, Risk: "Whoever owns an object can open it, and migrations cannot change it.", Mends: "gives it to landlord_owner"},
	{Name: "grant-excess", Severity: Error, Risk: "TRUNCATE, REFERENCES, TRIGGER and MAINTAIN go past row-level security.", Mends: "revokes it"},
	{Name: "grant-option", Severity: Warning, Risk: "The application can give its rights to others.", Mends: "revokes the grant option"},
	{Name: "grant-column", Severity: Warning, Risk: "A right on a column outlives the one on the table that is taken away.", Mends: "revokes it"},
	{Name: "grant-public", Severity: Warning, Risk: "Every login of the server has the right.", Mends: "revokes it"},
	{Name: "grant-stranger", Severity: Warning, Risk: "A role that landlord did not make gets at what lies here, and goes through no router."},
}

var routineRules = []Rule{
	{Name: "definer-callable", Severity: Error, Risk: "The function lends its owner's rights to every tenant.", Mends: "revokes EXECUTE"},
	{Name: "definer-search-path", Severity: Error, Risk: "The caller chooses which objects the function uses with its owner's rights."},
	{Name: "definer-powerful", Severity: Error, Risk: "The function runs as a role that row-level security does not hold.", Mends: "gives it to landlord_owner"},
	{Name: "function-leakproof", Severity: Warning, Risk: "A function that is marked leakproof is called with rows before the policies have left any out.", Mends: "takes the mark away"},
	{Name: "function-public", Severity: Warning, Risk: "Every login of the server can call the function.", Mends: "revokes it from PUBLIC and grants it to the application"},
	{Name: "mode-weakened", Severity: Error, Risk: "The mode promises that the application cannot do this.", Mends: "revokes it"},
	{Name: "catalog-grant", Severity: Error, Risk: "PostgreSQL keeps this from ordinary logins because it shows or does what concerns everybody.", Mends: "revokes it"},
}

var databaseRules = []Rule{
	{Name: "schema-create", Severity: Error, Risk: "The application can make objects that stand in front of the real ones.", Mends: "revokes it"},
	{Name: "schema-public", Severity: Warning, Risk: "Every login of the server can use what lies in the schema.", Mends: "revokes it"},
	{Name: "database-create", Severity: Error, Risk: "The application can make schemas and publications.", Mends: "revokes it"},
	{Name: "database-temp", Severity: Warning, Risk: "A temporary table can stand in front of a real one for the next tenant on the connection.", Mends: "revokes it"},
	{Name: "database-public", Severity: Warning, Risk: "Every login of the server can connect.", Mends: "revokes it"},
	{Name: "large-objects", Severity: Error, Risk: "A large object belongs to a login, not to a tenant."},
	{Name: "publication", Severity: Warning, Risk: "Logical replication sends the rows of all tenants, whatever the policies say."},
	{Name: "prepared-transaction", Severity: Warning, Risk: "It keeps its locks and its tenant until somebody ends it, and every session of its login can."},
	{Name: "foreign-server", Severity: Error, Risk: "The application can make foreign tables, which have no row-level security.", Mends: "revokes it"},
	{Name: "user-mapping", Severity: Error, Risk: "The application connects to another server, or to this one as somebody else."},
	{Name: "extension", Severity: Warning, Risk: "The extension reaches other servers, files or programs, past row-level security."},
	{Name: "default-grant", Severity: Warning, Risk: "Objects are open from the moment they are made.", Mends: "revokes it"},
	{Name: "default-public", Severity: Warning, Risk: "Every function is open to PUBLIC until it is secured.", Mends: "revokes it"},
	{Name: "landlord-grant", Severity: Error, Risk: "The seal keys, the fence and what guards them are landlord_guard's alone.", Mends: "revokes it"},
	{Name: "landlord-owner", Severity: Error, Risk: "Whoever owns landlord's objects decides who enters which tenant.", Mends: "gives it to landlord_guard"},
	{Name: "landlord-routine", Severity: Error, Risk: "Policies, enter and migrations are as good as the routines they call."},
	{Name: "landlord-outdated", Severity: Warning, Risk: "The home objects are of another release or mode, so their functions cannot be compared: run 'landlord init'."},
}

var serverRules = []Rule{
	{Name: "role-powerful", Severity: Error, Server: true, Risk: "A role with this attribute passes row-level security by, or can give itself what does.", Mends: "takes it away"},
	{Name: "role-member", Severity: Error, Server: true, Risk: "The application can take on another role, and its rights.", Mends: "revokes it"},
	{Name: "guard-member", Severity: Error, Server: true, Risk: "Another login can take on one of landlord's roles."},
	{Name: "role-owns", Severity: Error, Risk: "An owner can drop policies and disable row-level security.", Mends: "gives it to landlord_owner"},
	{Name: "role-setting", Severity: Error, Risk: "The setting is in force from the moment a session begins and changes whom or what its statements mean.", Mends: "resets it"},
	{Name: "parameter-grant", Severity: Error, Server: true, Risk: "Whoever may set a superuser's parameter can change the register of the tenant, or how the server behaves to all.", Mends: "revokes it"},
	{Name: "prepared-possible", Severity: Info, Server: true, Risk: "Every session of a login can end the prepared transactions of its login."},
	{Name: "server-old", Severity: Warning, Server: true, Risk: "The release has known faults in row-level security (CVE-2026-14666) and others that end every model: upgrade the server."},
}
