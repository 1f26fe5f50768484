-- +goose Up
select 'a;b', $$ ' $$, E'\';', /* ; /* nested */ ' */ 1;
