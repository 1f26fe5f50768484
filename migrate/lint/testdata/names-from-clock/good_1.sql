-- +goose Up
create table events_2060 partition of events for values from ('2060-01-01') to ('2061-01-01');
