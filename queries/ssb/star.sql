-- The whole star: every dimension at once, by year, region and manufacturer
SELECT d_year, c_region, s_region, p_mfgr, count(*) AS orders, sum(lo_quantity) AS quantity,
    sum(lo_revenue) AS revenue, avg(lo_discount) AS discount
FROM ssb.lineorder
JOIN ssb.date ON lo_orderdate = d_datekey
JOIN ssb.customer ON lo_custkey = c_custkey
JOIN ssb.supplier ON lo_suppkey = s_suppkey
JOIN ssb.part ON lo_partkey = p_partkey
GROUP BY ALL
ORDER BY d_year, c_region, s_region, p_mfgr;
