-- Claims read no more of a run's targets than they take, in the order in which they take them.

-- +goose Up

drop index landlord.run_targets_open;
create index run_targets_due on landlord.run_targets (run, cluster, wave, not_before, database, place)
    where state in ('pending', 'leased');
create index run_targets_due_here on landlord.run_targets (run, cluster, database, wave, not_before, place)
    where state in ('pending', 'leased');
