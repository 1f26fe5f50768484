// Command landlordvet finds, in the code of an application, the classic mistakes with tenants. go vet runs it:
//
//	go vet -vettool=bin/landlordvet ./...
//
// docs/landlordvet.md lists what it finds.
package main

import (
	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/landlord-go/landlord/cmd/landlordvet/mistake"
)

func main() { unitchecker.Main(mistake.Analyzers()...) }
