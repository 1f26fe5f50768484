// Package matrix moves tenants between homes while they are used, lets the process that drives the move fail at every point and in
// every way, and looks at what every move promises, whatever happened. It holds tests only; they need the build tag landlord_faults.
//
// A cell of the matrix is a transition, a point and a way to fail: killed at once, an error, or hanging, and later woken when somebody
// else has taken the move over; or the network between the mover and the clusters fails there, and is healed later. The tenants' own
// connections go past it. After each cell, invariants looks at all that has to hold. The negative controls leave one part of the
// protocol out, and show that the same look sees the damage.
package matrix
